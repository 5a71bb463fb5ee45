import Ladder
import LadderStudy

/// All that `ladder train` can be given, by the names of its options: what `--config` reads.
struct TrainingFile: NamedOptions {
  var model: String?
  var data: TextList?
  var valid: TextList?
  var out: String?
  var cache: String?
  var resume: Bool?
  var verbose: Bool?
  /// Of `ladder train` alone.
  var page: Bool?
  var pagePort: Int?
  var run = RunOptions()

  init() {}

  static var fields: [OptionField<TrainingFile>] {
    [
      .init("model", \.model), .init("data", \.data), .init("valid", \.valid), .init("out", \.out),
      .init("cache", \.cache), .init("resume", \.resume), .init("verbose", \.verbose),
      .init("page", \.page), .init("page-port", \.pagePort),
    ] + OptionField.all(of: \.run)
  }

  /// What a command line gives.
  init(
    _ options: ModelOptions, _ training: TrainingArguments, data: [String], valid: [String], out: String?,
    cache: String?, format: CacheFormat?, limit: ByteSize?
  ) {
    model = options.model
    self.data = data.isEmpty ? nil : TextList(data)
    self.valid = valid.isEmpty ? nil : TextList(valid)
    self.out = out
    self.cache = cache
    verbose = options.verbose ? true : nil
    run.training = training.options
    run.machine = options.machine
    run.cacheFormat = format
    run.cacheLimit = limit
  }

  /// The files to learn from, each with its share.
  /// - Throws: `usage` where none is named.
  func sources() throws -> [DataSource] {
    guard let data, !data.texts.isEmpty else {
      throw LadderError(.usage, "no --data: name the JSONL file to learn from")
    }
    return try data.texts.map { try DataSource($0) }
  }

  func cacheOptions() throws -> CacheOptions? {
    if cache == nil, run.cacheFormat != nil || run.cacheLimit != nil {
      throw LadderError(.usage, "--cache-format and --cache-limit go with --cache")
    }
    return cache.map(run.cache)
  }
}
