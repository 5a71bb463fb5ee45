import TestModels

/// The results as a page.
struct TableText {
  private let results: [CheckResult]

  init(_ results: [CheckResult]) { self.results = results }

  private var decoders: [CheckResult] { results.filter { $0.architecture.sort == .decoder } }
  private var others: [CheckResult] { results.filter { $0.architecture.sort == .other } }

  private func architectures(_ results: [CheckResult]) -> Int { Set(results.map(\.architecture.architecture)).count }

  var text: String {
    let sides = architectures(decoders.filter(\.worksForSideNetworks))
    let adapters = architectures(decoders.filter(\.worksForAdapters))
    return """
      # Models

      Of the \(architectures(decoders)) decoder-only architectures that the pinned llama.cpp names, **\(sides) work for \
      side networks (LST, xLadder)** and **\(adapters) for QLoRA**; another \(architectures(others)) are encoders, \
      diffusion models or parts of other models, and are refused by name.

      `make models` writes this page: for each architecture llama.cpp lists the tensors of a tiny model, which gets \
      random weights in F32 and has to

      - load;
      - start with llama.cpp's own logits (ln p within 1e-3, QLoRA's GELU 5e-3);
      - give the same for texts in one call, and with a beginning that two texts share, as for each alone (attention \
      in F32, within 5e-3);
      - lower its loss in eight steps of training;
      - decode step by step what it gives for the whole text (within 0.02 in the root of the mean square), and for QLoRA give the trained logits in \
      llama.cpp with the written adapter (within 0.02).

      | model | its blocks | LST | QLoRA |
      | --- | --- | --- | --- |
      \(decoders.map(row).joined(separator: "\n"))

      ## Why not

      \(reasons(decoders, \.worksForSideNetworks, \.sideReason, "Side networks"))

      \(reasons(decoders.filter { isLoaded($0) && !isOfUnknownFamily($0) }, \.worksForAdapters, \.adapterReason, "QLoRA"))

      Every other model that loads is refused for QLoRA in one line that names its architecture: its blocks' backward pass is not \
      known here.

      ## Refused

      \(others.map { "- \($0.architecture.name): \($0.sideReason ?? "not refused")" }.joined(separator: "\n"))

      """
  }

  private func row(_ result: CheckResult) -> String {
    func mark(_ works: Bool) -> String { works ? "yes" : "no" }
    return "| \(result.architecture.name) | \(result.traits) | \(mark(result.worksForSideNetworks)) | "
      + "\(mark(result.worksForAdapters)) |"
  }

  private func isLoaded(_ result: CheckResult) -> Bool { result.passed.contains(.load) }

  private func isOfUnknownFamily(_ result: CheckResult) -> Bool {
    result.failed[.adapterParity]?.contains("this is \(result.architecture.architecture)") ?? false
  }

  private func reasons(
    _ results: [CheckResult], _ works: KeyPath<CheckResult, Bool>, _ reason: KeyPath<CheckResult, String?>,
    _ title: String
  ) -> String {
    let lines = results.filter { !$0[keyPath: works] }.map { result in
      "- \(result.architecture.name): \(result[keyPath: reason] ?? "left out")"
    }
    return lines.isEmpty ? "\(title): all work." : "\(title):\n\n\(lines.joined(separator: "\n"))"
  }
}
