import ArgumentParser
import LadderStudy

struct StudyCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "study",
    abstract: "Compare methods: accuracy on tasks, what depth is good for, memory, and loss over compute.",
    subcommands: [StudyAccuracy.self, StudyFrontier.self, StudyDepth.self, StudyMemory.self, StudyScaling.self])
}

/// What a study that a YAML file describes takes.
struct StudyFileArguments: ParsableArguments {
  @Option(help: ArgumentHelp("The study.", valueName: "file.yaml"), completion: .file(extensions: ["yaml", "yml"]))
  var config: String
  @Option(help: ArgumentHelp("Folder for runs and findings.", valueName: "folder"), completion: .directory) var out:
    String
  @Option(
    help: ArgumentHelp("The backbone, instead of the file's.", valueName: "file.gguf"),
    completion: .file(extensions: ["gguf"])) var model: String?

  /// The backbone's file.
  func modelPath(_ configuration: StudyConfiguration) async throws -> String? {
    try await ModelName.path(model ?? configuration.model)
  }

  func configuration() throws -> StudyConfiguration {
    try ConfigurationFile.read(StudyConfiguration.self, path: config)
  }
}
