#include "server/jwt.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/limits.h"
#include "tests/server/tokens.h"

namespace descant {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr double kNow = 1'800'000'000;
constexpr char kRsHeader[] = R"({"alg":"RS256","typ":"JWT","kid":"r1"})";
constexpr char kEsHeader[] = R"({"alg":"ES256","typ":"JWT","kid":"e1"})";

// The claims of a token that is good, with `more` after them.
std::string Claims(const std::string& more = "") {
  return absl::StrCat(R"({"iss":"https://id.example","aud":"descant",)",
                      R"("exp":1800000060,"tenant":"acme")", more, "}");
}

class JwtTest : public ::testing::Test {
 protected:
  JwtTest() {
    JwtIssuer first;
    first.issuer = "https://id.example";
    first.audience = "descant";
    first.keys = {{"r1", JwtAlgorithm::kRs256, rsa_.public_pem()},
                  {"e1", JwtAlgorithm::kEs256, ec_.public_pem()}};
    JwtIssuer second;
    second.issuer = "https://other.example";
    second.audience = "descant";
    second.tenant_claim = "org";
    second.tenants = {"globex"};
    second.keys = {{"o1", JwtAlgorithm::kEs256, other_.public_pem()}};
    verifier_ = std::make_unique<JwtVerifier>(
        std::vector<JwtIssuer>{std::move(first), std::move(second)});
  }

  // Why the token is refused; "" where it isn't.
  std::string Why(const std::string& token, double now = kNow) const {
    const auto claims = verifier_->Verify(token, now);
    if (claims.ok()) return "";
    EXPECT_TRUE(absl::IsUnauthenticated(claims.status()));
    return std::string(claims.status().message());
  }
  std::string WhyPayload(const std::string& payload, double now = kNow) const {
    return Why(ec_.Sign(kEsHeader, payload), now);
  }
  std::string WhyHeader(const std::string& header) const {
    return Why(ec_.Sign(header, Claims()));
  }

  const TokenSigner rsa_{TokenSignature::kRs256};
  const TokenSigner ec_{TokenSignature::kEs256};
  const TokenSigner other_{TokenSignature::kEs256};
  std::unique_ptr<JwtVerifier> verifier_;
};

TEST_F(JwtTest, GoodTokensNameTheirTenant) {
  for (const std::string& token :
       {rsa_.Sign(kRsHeader, Claims()), ec_.Sign(kEsHeader, Claims()),
        ec_.Sign(R"({"kid":"e1","alg":"ES256"})", Claims()),
        ec_.Sign(kEsHeader, Claims(R"(,"nbf":1799999999,"iat":1,"sub":"x")")),
        ec_.Sign(kEsHeader,
                 R"({"iss":"https://id.example","aud":["x","descant"],)"
                 R"("exp":1.80000006e9,"tenant":"acme"})")}) {
    const auto claims = verifier_->Verify(token, kNow);
    ASSERT_TRUE(claims.ok()) << claims.status();
    EXPECT_EQ(claims->tenant, "acme");
  }
  const auto claims = verifier_->Verify(
      other_.Sign(R"({"alg":"ES256","kid":"o1"})",
                  R"({"iss":"https://other.example","aud":"descant",)"
                  R"("exp":1800000060,"org":"globex","tenant":"acme"})"),
      kNow);
  ASSERT_TRUE(claims.ok()) << claims.status();
  EXPECT_EQ(claims->tenant, "globex");
  EXPECT_EQ(claims->kid, "o1");
}

// Row 77.
TEST_F(JwtTest, TheTimesHold) {
  EXPECT_EQ(WhyPayload(Claims(), 1'800'000'060 + 29), "");
  EXPECT_THAT(WhyPayload(Claims(), 1'800'000'060 + 30),
              HasSubstr("has expired"));
  const std::string later = Claims(R"(,"nbf":1800000050)");
  EXPECT_EQ(WhyPayload(later, 1'800'000'020), "");
  EXPECT_THAT(WhyPayload(later, 1'800'000'019), HasSubstr("not valid yet"));
  for (const char* exp :
       {"", R"("exp":null,)", R"("exp":"1800000060",)", R"("exp":-1,)",
        R"("exp":[1800000060],)", R"("exp":0,)"}) {
    EXPECT_NE(WhyPayload(absl::StrCat(
                  R"({"iss":"https://id.example","aud":"descant",)", exp,
                  R"("tenant":"acme"})")),
              "")
        << exp;
  }
  EXPECT_THAT(WhyPayload(Claims(R"(,"nbf":"soon")")), HasSubstr("nbf"));
}

// Row 77.
TEST_F(JwtTest, IssuerAudienceAndTenantHold) {
  const auto with = [](const std::string& iss, const std::string& aud,
                       const std::string& tenant) {
    return absl::StrCat(R"({"iss":)", iss, R"(,"aud":)", aud,
                        R"(,"exp":1800000060,"tenant":)", tenant, "}");
  };
  const std::string iss = R"("https://id.example")";
  const std::string aud = R"("descant")";
  const std::string tenant = R"("acme")";
  ASSERT_EQ(WhyPayload(with(iss, aud, tenant)), "");
  for (const char* bad :
       {R"("https://id.example/")", R"("https://other.example")", "null",
        R"(["https://id.example"])", R"("")"}) {
    EXPECT_THAT(WhyPayload(with(bad, aud, tenant)), HasSubstr("iss")) << bad;
  }
  for (const char* bad : {R"("Descant")", R"(["x"])", "[]", "null", "7",
                          R"([["descant"]])", R"({"descant":1})"}) {
    EXPECT_THAT(WhyPayload(with(iss, bad, tenant)), HasSubstr("audience"))
        << bad;
  }
  for (const char* bad : {R"("")", "null", R"(["acme"])", "1"}) {
    EXPECT_THAT(WhyPayload(with(iss, aud, bad)), HasSubstr("no tenant")) << bad;
  }
  EXPECT_THAT(
      Why(other_.Sign(R"({"alg":"ES256","kid":"o1"})",
                      R"({"iss":"https://other.example","aud":"descant",)"
                      R"("exp":1800000060,"org":"acme"})")),
      HasSubstr("may not speak"));
  EXPECT_NE(WhyPayload(Claims(R"(,"iss":"https://id.example")")), "")
      << "a claim twice";
}

// Row 77.
TEST_F(JwtTest, TheAlgorithmIsTheKeysWhateverTheTokenSays) {
  // The classic: the public key as HMAC's secret.
  for (const char* alg : {"HS256", "RS256", "none"}) {
    const std::string header =
        absl::StrCat(R"({"alg":")", alg, R"(","typ":"JWT","kid":"r1"})");
    EXPECT_NE(Why(rsa_.Sign(header, Claims(), TokenSignature::kHs256)), "")
        << alg;
    EXPECT_NE(Why(rsa_.Sign(header, Claims(), TokenSignature::kNone)), "")
        << alg;
  }
  for (const char* header :
       {R"({"alg":"HS256","kid":"e1"})", R"({"alg":"none","kid":"e1"})",
        R"({"alg":"None","kid":"e1"})", R"({"alg":"RS256","kid":"e1"})",
        R"({"alg":"es256","kid":"e1"})", R"({"alg":"ES384","kid":"e1"})",
        R"({"kid":"e1"})", R"({"alg":["ES256"],"kid":"e1"})",
        R"({"alg":null,"kid":"e1"})"}) {
    EXPECT_THAT(WhyHeader(header), HasSubstr("algorithm")) << header;
  }
  // Another of the issuer's keys, with that key's algorithm.
  EXPECT_THAT(Why(ec_.Sign(kRsHeader, Claims())), HasSubstr("signature"));
  EXPECT_THAT(Why(rsa_.Sign(kEsHeader, Claims(), TokenSignature::kRs256)),
              HasSubstr("signature"));
}

// Row 77.
TEST_F(JwtTest, TheKidIsOfTheMapAlone) {
  for (const char* kid :
       {R"("")", R"("e2")", R"("E1")", R"("../../x")", R"("/dev/null")", "null",
        "1", R"(["e1"])", R"({"e1":1})"}) {
    EXPECT_THAT(WhyHeader(absl::StrCat(R"({"alg":"ES256","kid":)", kid, "}")),
                HasSubstr("kid is unknown"))
        << kid;
  }
  EXPECT_THAT(WhyHeader(R"({"alg":"ES256"})"), HasSubstr("kid is unknown"));
  // A key that the token brings counts for nothing.
  EXPECT_THAT(WhyHeader(R"({"alg":"ES256","jku":"https://evil.example/"})"),
              HasSubstr("kid is unknown"));
  EXPECT_THAT(
      Why(other_.Sign(R"({"alg":"ES256","kid":"e1","jwk":{"kty":"EC"}})",
                      Claims())),
      HasSubstr("signature"));
}

TEST_F(JwtTest, WhatMustBeUnderstoodIsRefused) {
  EXPECT_THAT(WhyHeader(R"({"alg":"ES256","kid":"e1","crit":["b64"]})"),
              HasSubstr("crit"));
  EXPECT_THAT(WhyHeader(R"({"alg":"ES256","kid":"e1","typ":"secevent+jwt"})"),
              HasSubstr("typ"));
  EXPECT_THAT(WhyHeader(R"({"alg":"ES256","kid":"e1","typ":1})"),
              HasSubstr("typ"));
}

TEST_F(JwtTest, AnyChangeOfABitIsRefused) {
  for (const std::string& token :
       {ec_.Sign(kEsHeader, Claims()), rsa_.Sign(kRsHeader, Claims())}) {
    ASSERT_EQ(Why(token), "");
    for (size_t i = 0; i < token.size(); ++i) {
      std::string changed = token;
      changed[i] = changed[i] == 'A' ? 'Z' : 'A';
      // The last character of a part may hold bits that mean nothing.
      if (i + 1 == token.size() || token[i + 1] == '.' || token[i] == '.') {
        continue;
      }
      EXPECT_NE(Why(changed), "") << i;
      if (i % 7 == 0) {
        EXPECT_NE(Why(token.substr(0, i)), "") << i;
      }
    }
  }
}

TEST_F(JwtTest, GarbageIsRefusedAtOnce) {
  const std::string good = ec_.Sign(kEsHeader, Claims());
  std::string nested;
  for (int i = 0; i < 1000; ++i) nested += "[";
  for (const std::string& bad :
       {std::string(),
        std::string("."),
        std::string(".."),
        std::string("a.b.c"),
        std::string("a.b.c.d"),
        good + ".x",
        good + "=",
        " " + good,
        good + "\n",
        std::string("\0.\0.\0", 5),
        std::string("e30.e30."),
        std::string("e30.e30.e30"),
        ec_.Sign("{}", "{}"),
        ec_.Sign("[]", "[]"),
        ec_.Sign("", ""),
        ec_.Sign(kEsHeader, "7"),
        ec_.Sign(kEsHeader, "{\"exp\":"),
        ec_.Sign(nested, nested),
        ec_.Sign(kEsHeader, nested),
        ec_.Sign(kEsHeader, "{\"a\":" + nested),
        ec_.Sign(kEsHeader, "\xff\xfe"),
        std::string(limits::kMaxBearerBytes + 1, 'a'),
        ec_.Sign(kEsHeader,
                 Claims(absl::StrCat(",\"x\":\"",
                                     std::string(limits::kMaxBearerBytes, 'x'),
                                     "\"")))}) {
    EXPECT_THAT(Why(bad), HasSubstr("token: ")) << bad.substr(0, 60);
  }
}

TEST_F(JwtTest, ReasonsRepeatNothingOfTheToken) {
  const std::string payload =
      R"({"iss":"SECRET","aud":"SECRET","exp":1,"tenant":"SECRET"})";
  EXPECT_THAT(WhyPayload(payload), Not(HasSubstr("SECRET")));
  EXPECT_THAT(WhyHeader(R"({"alg":"SECRET","kid":"SECRET"})"),
              Not(HasSubstr("SECRET")));
}

TEST(JwtKeyTest, AKeyMustBeOfItsAlgorithm) {
  const std::string rsa = TokenSigner(TokenSignature::kRs256).public_pem();
  const std::string ec = TokenSigner(TokenSignature::kEs256).public_pem();
  const auto check = [](JwtAlgorithm algorithm, const std::string& pem) {
    return CheckJwtKey({"k", algorithm, pem});
  };
  EXPECT_TRUE(check(JwtAlgorithm::kRs256, rsa).ok());
  EXPECT_TRUE(check(JwtAlgorithm::kEs256, ec).ok());
  EXPECT_FALSE(check(JwtAlgorithm::kRs256, ec).ok());
  EXPECT_FALSE(check(JwtAlgorithm::kEs256, rsa).ok());
  EXPECT_FALSE(check(JwtAlgorithm::kEs256,
                     TokenSigner(TokenSignature::kEs256, "P-384").public_pem())
                   .ok());
  EXPECT_FALSE(check(JwtAlgorithm::kRs256,
                     TokenSigner(TokenSignature::kRs256, "", 1024).public_pem())
                   .ok());
  for (const char* none :
       {"", "secret", "-----BEGIN PUBLIC KEY-----\nAAAA\n"}) {
    EXPECT_FALSE(check(JwtAlgorithm::kRs256, none).ok()) << none;
  }
}

TEST(JwtKeyTest, KeysOfMakeKeyDoNotLookLikeTokens) {
  EXPECT_FALSE(JwtVerifier::LooksLikeToken("dk_abcDEF-_09"));
  EXPECT_TRUE(JwtVerifier::LooksLikeToken("e30.e30.e30"));
  EXPECT_FALSE(JwtVerifier::LooksLikeToken("e30.e30."));
}

}  // namespace
}  // namespace descant
