import ArgumentParser
import Ladder
import LadderStudy

struct StudyAccuracy: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "accuracy",
    abstract: "Train and judge methods on tasks over seeds, and write the table.",
    discussion: """
      The study is a YAML file:

        model: model.gguf
        seeds: [0, 1, 2]
        cache: cache                     # optional: the model's activations, shared by all runs
        cost: true                       # default: speed and memory on a few steps that run the model
        base: true                       # default: the model as it is, too
        options: {epochs: 2}             # options of `ladder train` for every run
        tasks:
          - name: sst2
            train: sst2.train.jsonl
            dev: sst2.dev.jsonl
            metric: choice               # auto, loss, choice, matthews, macro-f1 or exact
            train-limit: 4000            # also: dev-limit, max-tokens, options
            method-options:              # optional: of one method on this task
              lst: {tap-dropout: 0.3}
            template:                    # optional: samples out of any other JSONL
              prompt: "Review: {sentence}\\nSentiment:"
              completion: " {label}"
              choices: [" negative", " positive"]
        methods:                         # default: lst and xladder
          - {name: lst, options: {method: lst}}
          - {name: xladder, options: {method: xladder, passes: 3}}

      Every run is a process of its own. What is finished is never run again: stop with Ctrl-C, and run the same command
      to go on. OUT/table.md, table.json and report.html are written after each task.
      """)

  @OptionGroup var file: StudyFileArguments
  @Option(
    help: ArgumentHelp("The activation cache, instead of the file's.", valueName: "folder"), completion: .directory)
  var cache: String?
  @Flag(help: "Print the table as one JSON object, not as Markdown.") var json = false

  func run() async throws {
    var configuration = try file.configuration()
    if let cache { configuration.cache = cache }
    let study = try AccuracyStudy(configuration, folder: file.out, model: try await file.modelPath(configuration))
    let table = try await interruptible(saves: true) { try study.run(ProcessRunner()) { Terminal.progress($0) } }
    Terminal.finishLine()
    if json { return Terminal.output(try Terminal.json(table)) }
    Terminal.output(table.markdown)
    Terminal.note("\(file.out)/report.html has the plots")
  }
}
