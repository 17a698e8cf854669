#include "server/tls_certificate.h"

#include <openssl/evp.h>
#include <stdlib.h>

#include <filesystem>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/base/clock.h"
#include "tests/server/certificates.h"

namespace descant {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class TlsCertificateTest : public ::testing::Test {
 protected:
  TlsCertificateTest() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "tls-XXXXXX").string();
    folder_ = mkdtemp(pattern.data());
    files_.certificate = folder_ + "/tls.crt";
    files_.key = folder_ + "/tls.key";
  }
  ~TlsCertificateTest() override { std::filesystem::remove_all(folder_); }

  void Write(const PemPair& pair) {
    WriteFileAtomically(files_.certificate, pair.certificate, 0644);
    WriteFileAtomically(files_.key, pair.key);
  }

  // "" where the files are taken.
  std::string Error() const {
    const auto loaded = LoadTlsMaterial(files_, clock_.UnixSeconds());
    if (loaded.ok()) return "";
    EXPECT_EQ(loaded.status().code(), absl::StatusCode::kInvalidArgument);
    const std::string message(loaded.status().message());
    EXPECT_THAT(message, StartsWith(folder_));
    EXPECT_THAT(message, Not(HasSubstr("\n")));
    return message;
  }

  SystemClock clock_;
  TestAuthority authority_{"authority"};
  std::string folder_;
  TlsFiles files_;
};

TEST_F(TlsCertificateTest, TakesAPairAndSaysWhichItIs) {
  const PemPair pair = authority_.Issue("DNS:localhost", {-60, 600});
  Write(pair);
  const auto loaded = LoadTlsMaterial(files_, clock_.UnixSeconds());
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ((*loaded)->certificate_chain, pair.certificate);
  EXPECT_EQ((*loaded)->private_key, pair.key);
  EXPECT_EQ((*loaded)->fingerprint.size(), 64u);
  EXPECT_NEAR(static_cast<double>((*loaded)->not_after),
              clock_.UnixSeconds() + 600, 5);
  EXPECT_EQ((*loaded)->client_ca, "");
}

TEST_F(TlsCertificateTest, RefusesWhatNoHandshakeCouldUse) {
  const PemPair good = authority_.Issue("DNS:localhost");
  const PemPair other = authority_.Issue("DNS:localhost");
  EXPECT_THAT(Error(), HasSubstr("cannot be read"));
  Write({good.certificate, other.key});
  EXPECT_THAT(Error(), HasSubstr("is not the certificate's key"));
  Write({"nothing", good.key});
  EXPECT_THAT(Error(), HasSubstr("must hold PEM certificates"));
  Write({good.certificate + good.certificate.substr(0, 200), good.key});
  EXPECT_THAT(Error(), HasSubstr("must hold PEM certificates"));
  Write({good.certificate, "nothing"});
  EXPECT_THAT(Error(), HasSubstr("must hold a PEM private key"));
  Write({good.certificate, good.certificate});
  EXPECT_THAT(Error(), HasSubstr("must hold a PEM private key"));
  Write(authority_.Issue("DNS:localhost", {-600, -300}));
  EXPECT_THAT(Error(), HasSubstr("has expired"));
  Write(authority_.Issue("DNS:localhost", {300, 600}));
  EXPECT_THAT(Error(), HasSubstr("not valid yet"));
  Write(good);
  EXPECT_EQ(Error(), "");
  std::filesystem::remove(files_.key);
  std::filesystem::create_directory(files_.key);
  EXPECT_THAT(Error(), HasSubstr("cannot be read"));
}

TEST_F(TlsCertificateTest, RefusesAnEncryptedKeyWithoutAsking) {
  const PemPair good = authority_.Issue("DNS:localhost");
  const std::string encrypted =
      "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"
      "DEK-Info: AES-128-CBC,00112233445566778899AABBCCDDEEFF\n\n"
      "AAAAAAAAAAAAAAAAAAAAAA==\n-----END EC PRIVATE KEY-----\n";
  Write({good.certificate, encrypted});
  EXPECT_THAT(Error(), HasSubstr("not encrypted"));
}

TEST_F(TlsCertificateTest, RefusesAKeyThatOthersMayRead) {
  const PemPair good = authority_.Issue("DNS:localhost");
  Write(good);
  for (const uint32_t mode : {0604u, 0644u, 0660u, 0602u}) {
    WriteFileAtomically(files_.key, good.key, mode);
    EXPECT_THAT(Error(), HasSubstr("may use it")) << std::oct << mode;
  }
  // What a Secret is for a pod that is not root's.
  WriteFileAtomically(files_.key, good.key, 0440);
  EXPECT_EQ(Error(), "");
}

TEST_F(TlsCertificateTest, ClientAuthoritiesMustBeCertificates) {
  Write(authority_.Issue("DNS:localhost"));
  files_.client_ca = folder_ + "/ca.crt";
  EXPECT_THAT(Error(), HasSubstr("ca.crt: cannot be read"));
  WriteFileAtomically(files_.client_ca, "no PEM");
  EXPECT_THAT(Error(), HasSubstr("ca.crt: must hold PEM"));
  const TestAuthority second("second");
  WriteFileAtomically(files_.client_ca,
                      authority_.certificate() + second.certificate());
  EXPECT_EQ(Error(), "");
}

TEST_F(TlsCertificateTest, WatchTakesAPairOnceItIsWhole) {
  Write(authority_.Issue("DNS:localhost"));
  const auto first = LoadTlsMaterial(files_, clock_.UnixSeconds());
  ASSERT_TRUE(first.ok());
  TlsCertificate certificate(files_, *first, &clock_);
  certificate.Watch();
  EXPECT_EQ(certificate.current(), *first);

  const PemPair next = authority_.Issue("DNS:localhost");
  WriteFileAtomically(files_.certificate, next.certificate, 0644);
  certificate.Watch();  // it has changed just now: the key may follow
  WriteFileAtomically(files_.key, next.key);
  certificate.Watch();
  EXPECT_EQ(certificate.current(), *first);
  certificate.Watch();
  EXPECT_EQ(certificate.current()->private_key, next.key);
  EXPECT_FALSE(certificate.Stats().stale);
  EXPECT_EQ(certificate.Stats().reload_failures, 0u);
}

TEST_F(TlsCertificateTest, WhatIsBadChangesNothingAndCountsOnce) {
  Write(authority_.Issue("DNS:localhost"));
  const auto first = LoadTlsMaterial(files_, clock_.UnixSeconds());
  ASSERT_TRUE(first.ok());
  TlsCertificate certificate(files_, *first, &clock_);
  WriteFileAtomically(files_.key, authority_.Issue("DNS:localhost").key);
  for (int i = 0; i < 5; ++i) certificate.Watch();
  EXPECT_EQ(certificate.current(), *first);
  EXPECT_TRUE(certificate.Stats().stale);
  EXPECT_EQ(certificate.Stats().reload_failures, 1u);

  std::filesystem::remove(files_.certificate);
  for (int i = 0; i < 5; ++i) certificate.Watch();
  EXPECT_EQ(certificate.current(), *first);
  EXPECT_EQ(certificate.Stats().reload_failures, 2u);

  const PemPair good = authority_.Issue("DNS:localhost");
  Write(good);
  for (int i = 0; i < 2; ++i) certificate.Watch();
  EXPECT_EQ(certificate.current()->private_key, good.key);
  EXPECT_FALSE(certificate.Stats().stale);
  EXPECT_EQ(certificate.Stats().not_after, certificate.current()->not_after);
}

}  // namespace
}  // namespace descant
