import ArgumentParser

struct StudyCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "study", abstract: "Compare methods: accuracy on tasks, and what depth is good for.", subcommands: [StudyAccuracy.self, StudyDepth.self])
}
