import ArgumentParser
import Ladder

/// What is read, and how, by commands that take the options of `ladder train`.
struct SampleArguments: ParsableArguments {
  @Option(
    help: ArgumentHelp("YAML file of options, as `ladder train` takes one.", valueName: "file.yaml"),
    completion: .file(extensions: ["yaml", "yml"]))
  var config: String?
  @Option(
    help: ArgumentHelp("Training samples, as `ladder train` takes them.", valueName: "file[:share]"),
    completion: .file())
  var data: [String] = []
  @Option(
    help: ArgumentHelp(
      "bf16, or q8_0: half the size, rounded (default: what the folder has for this model, else bf16).",
      valueName: "kind"))
  var cacheFormat: CacheFormat?
  @Option(help: ArgumentHelp("Size at which the cache stores no more, e.g. 20GB.", valueName: "size"))
  var cacheLimit: ByteSize?

  /// These over what the file of options says.
  func asked(
    _ options: ModelOptions, _ training: TrainingArguments, valid: [String], out: String?, cache: String?
  ) throws -> TrainingFile {
    let given = TrainingFile(
      options, training, data: data, valid: valid, out: out, cache: cache, format: cacheFormat, limit: cacheLimit)
    return try config.map { given.over(try ConfigurationFile.read(TrainingFile.self, path: $0)) } ?? given
  }
}
