#include "server/tls_certificate.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/stat.h>

#include <algorithm>
#include <ctime>
#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "adapters/identity.h"
#include "runtime/base/log.h"
#include "runtime/base/status_macros.h"
#include "server/operator_file.h"

namespace descant {
namespace {

constexpr uint64_t kMaxPemBytes = 1 << 20;
// Group may read the key: what Kubernetes makes of a Secret for a pod that is
// not root's.
constexpr mode_t kKeyForbidden = 027;

template <typename T, void (*Free)(T*)>
struct Freer {
  void operator()(T* object) const { Free(object); }
};
using Certificate = std::unique_ptr<X509, Freer<X509, X509_free>>;
using PrivateKey = std::unique_ptr<EVP_PKEY, Freer<EVP_PKEY, EVP_PKEY_free>>;
using Context = std::unique_ptr<SSL_CTX, Freer<SSL_CTX, SSL_CTX_free>>;
using Bio = std::unique_ptr<BIO, Freer<BIO, BIO_free_all>>;

absl::Status FileError(const std::string& path, absl::string_view message) {
  ERR_clear_error();
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", message));
}

Bio Over(const std::string& pem) {
  return Bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
}

// An encrypted key is refused; OpenSSL would ask the terminal for a password.
int NoPassword(char*, int, int, void*) { return 0; }

// Unix seconds.
absl::StatusOr<int64_t> TimeOf(const ASN1_TIME* time, const std::string& path) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) {
    return FileError(path, "a certificate has a time that is none");
  }
  return static_cast<int64_t>(timegm(&parts));
}

absl::StatusOr<std::vector<Certificate>> ParseCertificates(
    const std::string& pem, const std::string& path) {
  std::vector<Certificate> certificates;
  const Bio bio = Over(pem);
  while (true) {
    Certificate next(
        PEM_read_bio_X509(bio.get(), nullptr, NoPassword, nullptr));
    if (next == nullptr) break;
    certificates.push_back(std::move(next));
  }
  // The end of the file is an error of this kind too.
  const bool at_end =
      ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
  if (certificates.empty() || !at_end) {
    return FileError(path, "must hold PEM certificates");
  }
  ERR_clear_error();
  return certificates;
}

// The earliest end.
absl::StatusOr<int64_t> CheckTimes(const std::vector<Certificate>& chain,
                                   const std::string& path, double now) {
  int64_t earliest = std::numeric_limits<int64_t>::max();
  for (const Certificate& certificate : chain) {
    DESCANT_ASSIGN_OR_RETURN(
        const int64_t begin,
        TimeOf(X509_get0_notBefore(certificate.get()), path));
    DESCANT_ASSIGN_OR_RETURN(
        const int64_t end, TimeOf(X509_get0_notAfter(certificate.get()), path));
    if (now < static_cast<double>(begin)) {
      return FileError(path, "a certificate is not valid yet");
    }
    if (now > static_cast<double>(end)) {
      return FileError(path, "a certificate has expired");
    }
    earliest = std::min(earliest, end);
  }
  return earliest;
}

// What a handshake would need of them, by the library that does it.
absl::Status CheckPair(const TlsFiles& files,
                       const std::vector<Certificate>& chain,
                       const std::string& key_pem) {
  const Bio bio = Over(key_pem);
  const PrivateKey key(
      PEM_read_bio_PrivateKey(bio.get(), nullptr, NoPassword, nullptr));
  if (key == nullptr) {
    return FileError(files.key, "must hold a PEM private key, not encrypted");
  }
  const Context context(SSL_CTX_new(TLS_server_method()));
  if (SSL_CTX_use_certificate(context.get(), chain.front().get()) != 1) {
    return FileError(files.certificate,
                     "its key is too weak, or of a kind that TLS has not");
  }
  if (SSL_CTX_use_PrivateKey(context.get(), key.get()) != 1 ||
      SSL_CTX_check_private_key(context.get()) != 1) {
    return FileError(files.key, "is not the certificate's key");
  }
  return absl::OkStatus();
}

std::string FingerprintOf(const Certificate& certificate) {
  Sha256Digest digest{};
  unsigned size = 0;
  X509_digest(certificate.get(), EVP_sha256(), digest.data(), &size);
  return HexOf(digest);
}

}  // namespace

absl::StatusOr<std::shared_ptr<const TlsMaterial>> LoadTlsMaterial(
    const TlsFiles& files, double now) {
  auto material = std::make_shared<TlsMaterial>();
  DESCANT_ASSIGN_OR_RETURN(material->certificate_chain,
                           ReadOperatorFile(files.certificate, kMaxPemBytes));
  DESCANT_ASSIGN_OR_RETURN(
      material->private_key,
      ReadSecretFile(files.key, kMaxPemBytes, kKeyForbidden));
  DESCANT_ASSIGN_OR_RETURN(
      const std::vector<Certificate> chain,
      ParseCertificates(material->certificate_chain, files.certificate));
  DESCANT_ASSIGN_OR_RETURN(material->not_after,
                           CheckTimes(chain, files.certificate, now));
  DESCANT_RETURN_IF_ERROR(CheckPair(files, chain, material->private_key));
  material->fingerprint = FingerprintOf(chain.front());
  if (!files.client_ca.empty()) {
    DESCANT_ASSIGN_OR_RETURN(material->client_ca,
                             ReadOperatorFile(files.client_ca, kMaxPemBytes));
    // An old CA beside the new one may have expired.
    DESCANT_RETURN_IF_ERROR(
        ParseCertificates(material->client_ca, files.client_ca).status());
  }
  return std::shared_ptr<const TlsMaterial>(std::move(material));
}

TlsCertificate::TlsCertificate(TlsFiles files,
                               std::shared_ptr<const TlsMaterial> material,
                               const Clock* clock)
    : files_(std::move(files)), clock_(clock), current_(std::move(material)) {
  read_ = seen_ = Look();
}

TlsCertificate::FileStates TlsCertificate::Look() const {
  FileStates states;
  const std::string* const paths[] = {&files_.certificate, &files_.key,
                                      &files_.client_ca};
  for (size_t i = 0; i < states.size(); ++i) {
    struct stat info {};
    if (paths[i]->empty() || stat(paths[i]->c_str(), &info) != 0) continue;
    states[i] = {info.st_dev, info.st_ino, info.st_size,
                 info.st_mtim.tv_sec * 1'000'000'000 + info.st_mtim.tv_nsec};
  }
  return states;
}

std::shared_ptr<const TlsMaterial> TlsCertificate::current() const {
  MutexLock lock(&mutex_);
  return current_;
}

TlsStats TlsCertificate::Stats() const {
  MutexLock lock(&mutex_);
  return {stale_, failures_, current_->not_after};
}

absl::Status TlsCertificate::Reload() {
  // Before they are read: a change in between is then seen by the next Watch.
  const FileStates states = Look();
  auto material = LoadTlsMaterial(files_, clock_->UnixSeconds());
  if (material.ok()) {
    LogInfo("TLS: certificate read, SHA-256 ", (*material)->fingerprint);
  } else {
    LogError("TLS: the certificate before it stays: ",
             LogSafe(material.status().message()));
  }
  MutexLock lock(&mutex_);
  read_ = states;
  stale_ = !material.ok();
  if (stale_) {
    ++failures_;
    return material.status();
  }
  current_ = *std::move(material);
  return absl::OkStatus();
}

void TlsCertificate::Watch() {
  const FileStates states = Look();
  {
    MutexLock lock(&mutex_);
    const bool settled = states == std::exchange(seen_, states);
    if (states == read_ || !settled) return;
  }
  Reload().IgnoreError();
}

}  // namespace descant
