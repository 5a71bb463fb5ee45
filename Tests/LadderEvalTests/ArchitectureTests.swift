import LadderBackbone
import LadderCore
import LadderInference
import TestModels
import Testing

/// Some architectures of different kinds; `make models` goes through all of them.
@Suite(.serialized) struct ArchitectureTests {
  let folder: TemporaryFolder
  init() throws { folder = try TemporaryFolder() }

  private func failures(_ name: String) throws -> [ModelCheck.Stage: String] {
    let path = folder.file("model.gguf")
    try #require(Architectures.named(name)).write(path)
    var failures: [ModelCheck.Stage: String] = [:]
    ModelCheck(path, folder: folder.path).run(
      begins: { _ in }, ends: { stage, error in failures[stage] = error?.message })
    return failures
  }

  /// Parallel blocks, ALiBi, learned positions, soft-caps and a window, experts with a shared one, a latent, states,
  /// states beside attention, names of another kind, a scaled head input.
  @Test(
    arguments: [
      "falcon", "bloom", "gpt2", "gemma2", "deepseek2", "mamba2", "qwen3next", "plamo2", "minicpm",
    ])
  func sideNetworksWorkWith(_ name: String) throws {
    let failures = try failures(name)
    #expect(failures.filter { !$0.key.isOfAdapter }.isEmpty, "\(failures)")
    // What QLoRA does not know it refuses by name.
    #expect(failures[.adapterParity]?.contains("this is \(name)") ?? false)
  }

  @Test(arguments: ["llama, tied head, biases, no grouping", "phi3", "qwen3moe", "granite"])
  func bothMethodsWorkWith(_ name: String) throws {
    let failures = try failures(name)
    #expect(failures.isEmpty, "\(failures)")
  }

  @Test func whatPredictsNoNextTokenIsRefusedByName() throws {
    for architecture in Architectures.all where architecture.sort == .other {
      let path = folder.file("other.gguf")
      try architecture.write(path)
      #expect { try Backbone(path: path, threads: 1, device: "CPU") } throws: { error in
        let error = error as? LadderError
        return error?.kind == .data && error?.message.contains("(\(architecture.name))") ?? false
      }
    }
  }
}
