// How weft.process asks whether a service is there.
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "process_object.hpp"

namespace weft::python {

namespace {

/// (ready, what was seen). Raises what says nothing of the service: that the question is wrong, or that this
/// process has no more descriptors.
template <typename Ask>
std::pair<bool, std::string> ask(Ask&& question) {
  ensure_runtime_on_main();
  detail::ProbeAnswer answer;
  const Outcome outcome = blocking([&] { return question(answer); });
  if (outcome != Outcome::kTimeout) raise_outcome(outcome);
  if (!answer.ready && answer.error == EINVAL) raise_error(PyExc_ValueError, answer.seen);
  if (!answer.ready && (answer.error == EMFILE || answer.error == ENFILE || answer.error == ENOMEM))
    raise_errno(answer.error);
  return {answer.ready, answer.seen};
}

/// A request, kept as it is asked again and again.
class HttpProbe {
 public:
  HttpProbe(std::string url, std::string method, std::string body,
            std::vector<std::pair<std::string, std::string>> headers, nb::object status,
            bool follow_redirects, bool verify, std::string ca_file)
      : url_(std::move(url)),
        method_(std::move(method)),
        body_(std::move(body)),
        ca_file_(std::move(ca_file)),
        headers_(std::move(headers)),
        status_(std::move(status)) {
    for (const auto& [name, value] : headers_) {
      names_.push_back(name.c_str());
      values_.push_back(value.c_str());
    }
    request_.url = url_.c_str();
    request_.method = method_.c_str();
    request_.body = body_.empty() ? nullptr : body_.data();
    request_.body_size = body_.size();
    request_.header_names = names_.data();
    request_.header_values = values_.data();
    request_.header_count = names_.size();
    request_.status = nb::cast<PatternObject&>(status_).get();
    request_.follow_redirects = follow_redirects;
    request_.verify = verify;
    request_.ca_file = ca_file_.empty() ? nullptr : ca_file_.c_str();
  }
  HttpProbe(const HttpProbe&) = delete;
  HttpProbe& operator=(const HttpProbe&) = delete;

  std::pair<bool, std::string> probe(double limit) const {
    return ask(
        [&](detail::ProbeAnswer& answer) { return detail::probe_http(request_, nanos_of(limit), answer); });
  }

 private:
  std::string url_, method_, body_, ca_file_;
  std::vector<std::pair<std::string, std::string>> headers_;
  std::vector<const char*> names_, values_;
  nb::object status_;
  detail::HttpProbe request_;
};

}  // namespace

void add_probes(nb::module_& module) {
  nb::class_<HttpProbe>(module, "_HttpProbe")
      .def(nb::init<std::string, std::string, std::string, std::vector<std::pair<std::string, std::string>>,
                    nb::object, bool, bool, std::string>(),
           nb::arg("url"), nb::arg("method"), nb::arg("body"), nb::arg("headers"), nb::arg("status"),
           nb::arg("follow_redirects"), nb::arg("verify"), nb::arg("ca_file"))
      .def("probe", &HttpProbe::probe, nb::arg("limit"));
  module.def(
      "_probe_tcp",
      [](const std::string& host, int port, double limit) {
        return ask([&](detail::ProbeAnswer& answer) {
          return detail::probe_tcp(host.c_str(), static_cast<uint16_t>(port), nanos_of(limit), answer);
        });
      },
      nb::arg("host"), nb::arg("port"), nb::arg("limit"));
  module.def(
      "_probe_unix",
      [](const std::string& path, double limit) {
        return ask([&](detail::ProbeAnswer& answer) {
          return detail::probe_unix(path.c_str(), nanos_of(limit), answer);
        });
      },
      nb::arg("path"), nb::arg("limit"));
  module.def(
      "_probe_pause",
      [](double waited, double longest) {
        return static_cast<double>(detail::probe_pause(nanos_of(waited), nanos_of(longest))) / 1e9;
      },
      nb::arg("waited"), nb::arg("longest"));
}

}  // namespace weft::python
