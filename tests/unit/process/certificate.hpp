// Certificate: keys and certificates for tests of TLS, made on the spot.
#pragma once

#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>

namespace weft::process::test {

template <auto free>
struct Freeing {
  void operator()(auto* object) const noexcept { free(object); }
};
template <typename T, auto free>
using Owned = std::unique_ptr<T, Freeing<free>>;

/// A key, and a certificate for `names` ("DNS:localhost,IP:127.0.0.1") that it has signed itself, good for
/// `days` from now; less than zero: that ended then.
struct Certificate {
  Owned<EVP_PKEY, &EVP_PKEY_free> key{EVP_EC_gen("P-256")};
  Owned<X509, &X509_free> certificate{X509_new()};

  explicit Certificate(const char* names, int days = 1) {
    X509* x509 = certificate.get();
    X509_set_version(x509, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(x509), 1);
    X509_time_adj_ex(X509_getm_notBefore(x509), days < 0 ? 2 * days : -1, 0, nullptr);
    X509_time_adj_ex(X509_getm_notAfter(x509), days, 0, nullptr);
    X509_set_pubkey(x509, key.get());
    X509_NAME* name = X509_get_subject_name(x509);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>("weft test"),
                               -1, -1, 0);
    X509_set_issuer_name(x509, name);
    X509V3_CTX context;
    X509V3_set_ctx(&context, x509, x509, nullptr, nullptr, 0);
    Owned<X509_EXTENSION, &X509_EXTENSION_free> extension(
        X509V3_EXT_conf_nid(nullptr, &context, NID_subject_alt_name, names));
    if (!extension || !X509_add_ext(x509, extension.get(), -1) || !X509_sign(x509, key.get(), EVP_sha256()))
      throw std::runtime_error("cannot make a certificate");
  }
};

/// A file with the certificate in PEM, removed at the end.
class CertificateFile {
 public:
  explicit CertificateFile(const Certificate& certificate) {
    const int fd = ::mkstemp(path_.data());
    Owned<FILE, &fclose> file(::fdopen(fd, "w"));
    if (!file || !PEM_write_X509(file.get(), certificate.certificate.get()))
      throw std::runtime_error("cannot write a certificate");
  }
  ~CertificateFile() { ::unlink(path_.c_str()); }
  CertificateFile(const CertificateFile&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_ = "/tmp/weft-certificate-XXXXXX";
};

}  // namespace weft::process::test
