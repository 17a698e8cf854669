#include "tests/server/certificates.h"

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include <cstdio>
#include <fstream>

#include "runtime/base/check.h"

namespace descant {
namespace {

// What `write` writes into a BIO.
template <typename Write>
std::string Written(Write write) {
  BIO* const bio = BIO_new(BIO_s_mem());
  DESCANT_CHECK(write(bio) == 1);
  char* data = nullptr;
  const int64_t size = BIO_get_mem_data(bio, &data);
  std::string text(data, static_cast<size_t>(size));
  BIO_free(bio);
  return text;
}

std::string ToPem(X509* certificate) {
  return Written(
      [&](BIO* bio) { return PEM_write_bio_X509(bio, certificate); });
}

void AddExtension(X509* certificate, int nid, const std::string& value) {
  X509_EXTENSION* const extension =
      X509V3_EXT_conf_nid(nullptr, nullptr, nid, value.c_str());
  DESCANT_CHECK(extension != nullptr);
  DESCANT_CHECK(X509_add_ext(certificate, extension, -1) == 1);
  X509_EXTENSION_free(extension);
}

}  // namespace

TestAuthority::TestAuthority(const std::string& name) {
  key_.reset(EVP_EC_gen("P-256"));
  certificate_ = Sign(key_.get(), name, "", {});
  pem_ = ToPem(certificate_.get());
}

PemPair TestAuthority::Issue(const std::string& names,
                             const Validity& validity) {
  const Key key(EVP_EC_gen("P-256"));
  const Certificate certificate = Sign(key.get(), "leaf", names, validity);
  return {ToPem(certificate.get()), descant::ToPem(key.get())};
}

TestAuthority::Certificate TestAuthority::Sign(EVP_PKEY* key,
                                               const std::string& subject,
                                               const std::string& names,
                                               const Validity& validity) {
  Certificate made(X509_new());
  X509* const x = made.get();
  X509_set_version(x, X509_VERSION_3);
  ASN1_INTEGER_set_int64(X509_get_serialNumber(x), ++serial_);
  X509_gmtime_adj(X509_getm_notBefore(x), validity.begin);
  X509_gmtime_adj(X509_getm_notAfter(x), validity.end);
  X509_set_pubkey(x, key);
  X509_NAME_add_entry_by_txt(
      X509_get_subject_name(x), "CN", MBSTRING_UTF8,
      reinterpret_cast<const unsigned char*>(subject.c_str()), -1, -1, 0);
  const bool is_authority = certificate_ == nullptr;
  X509_set_issuer_name(
      x, X509_get_subject_name(is_authority ? x : certificate_.get()));
  AddExtension(x, NID_basic_constraints,
               is_authority ? "critical,CA:TRUE" : "critical,CA:FALSE");
  if (is_authority) AddExtension(x, NID_key_usage, "critical,keyCertSign");
  if (!names.empty()) AddExtension(x, NID_subject_alt_name, names);
  DESCANT_CHECK(X509_sign(x, key_.get(), EVP_sha256()) > 0);
  return made;
}

std::string ToPem(EVP_PKEY* key) {
  return Written([&](BIO* bio) {
    return PEM_write_bio_PrivateKey(bio, key, nullptr, nullptr, 0, nullptr,
                                    nullptr);
  });
}

std::string PublicToPem(EVP_PKEY* key) {
  return Written([&](BIO* bio) { return PEM_write_bio_PUBKEY(bio, key); });
}

void WriteFileAtomically(const std::string& path, const std::string& content,
                         uint32_t mode) {
  const std::string next = path + ".next";
  std::ofstream(next, std::ios::binary) << content;
  DESCANT_CHECK(chmod(next.c_str(), mode) == 0);
  DESCANT_CHECK(std::rename(next.c_str(), path.c_str()) == 0);
}

}  // namespace descant
