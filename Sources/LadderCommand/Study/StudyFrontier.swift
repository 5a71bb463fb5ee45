import ArgumentParser
import Ladder
import LadderStudy

struct StudyFrontier: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "frontier",
    abstract: "Loss against memory and against time, for side networks, QLoRA in the last blocks, and QLoRA.",
    discussion: """
      The study is a YAML file of tasks and methods, as `ladder study accuracy` takes one; without methods it compares
      LST (one epoch and three), xLadder, and QLoRA in the last sixth, third and half of the blocks and in all of them.
      Every run begins with nothing and keeps what it may for its later epochs in a cache of its own.

      Every run is a process of its own, and its peak memory the kernel's count. What is finished is never run again.
      OUT/frontier.html has the plots, OUT/TASK-memory.svg and OUT/TASK-seconds.svg each of them.
      """)

  @OptionGroup var file: StudyFileArguments
  @Flag(help: "Print the points as one JSON object, not as Markdown.") var json = false

  func run() async throws {
    let configuration = try file.configuration()
    let study = try FrontierStudy(configuration, folder: file.out, model: try await file.modelPath(configuration))
    let points = try await interruptible(saves: true) { try study.run(ProcessRunner()) { Terminal.progress($0) } }
    Terminal.finishLine()
    Terminal.output(json ? try Terminal.json(["points": points]) : FrontierStudy.markdown(points))
    Terminal.note("\(file.out)/frontier.html has the plots")
  }
}
