import ArgumentParser

struct StudyCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "study",
    abstract: "Compare methods: accuracy on tasks, what depth is good for, memory, and loss over compute.",
    subcommands: [StudyAccuracy.self, StudyFrontier.self, StudyDepth.self, StudyMemory.self, StudyScaling.self])
}
