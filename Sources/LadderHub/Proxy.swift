import AsyncHTTPClient
import Foundation

/// The proxy for https that the environment names, as curl reads it: `https_proxy`, `all_proxy`, `no_proxy`.
struct Proxy {
  let configuration: HTTPClient.Configuration.Proxy
  /// Hosts, and ends of hosts, that are reached without it.
  private let excluded: [String]

  init?(_ variables: [String: String] = ProcessInfo.processInfo.environment) {
    func value(_ name: String) -> String? {
      [name, name.uppercased()].lazy.compactMap { variables[$0] }.first { !$0.isEmpty }
    }
    guard let text = value("https_proxy") ?? value("all_proxy"),
      let url = URL(string: text.contains("://") ? text : "http://" + text), let host = url.host
    else { return nil }
    excluded = (value("no_proxy") ?? "").split(separator: ",").map {
      let name = $0.trimmingCharacters(in: .whitespaces).lowercased()
      return name.hasPrefix(".") ? String(name.dropFirst()) : name
    }
    if url.scheme?.hasPrefix("socks") == true {
      configuration = .socksServer(host: host, port: url.port ?? 1080)
    } else if let user = url.user {
      configuration = .server(
        host: host, port: url.port ?? 8080, authorization: .basic(username: user, password: url.password ?? ""))
    } else {
      configuration = .server(host: host, port: url.port ?? 8080)
    }
  }

  func serves(_ url: URL) -> Bool {
    guard url.scheme == "https", let host = url.host?.lowercased() else { return false }
    return !excluded.contains { $0 == "*" || host == $0 || host.hasSuffix("." + $0) }
  }
}
