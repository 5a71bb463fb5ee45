import LadderBackbone
import LadderCore
import LadderData
import LadderEval
import LadderMethods
import LadderTrain

/// The machine that a job runs on: what is left open has the engine's default.
public struct MachineOptions: NamedOptions {
  public var device: String?
  public var threads: Int?
  public var gpuLayers: Int?
  public var workers: TextList?

  public init() {}

  public static var fields: [OptionField<MachineOptions>] {
    [
      .init("device", \.device), .init("threads", \.threads), .init("gpu-layers", \.gpuLayers),
      .init("workers", \.workers),
    ]
  }
}

/// What a study's file can say of each training.
public struct RunOptions: NamedOptions {
  public var training = TrainingOptions()
  public var machine = MachineOptions()
  public var cacheFormat: CacheFormat?
  public var cacheLimit: ByteSize?

  public init() {}

  public static var fields: [OptionField<RunOptions>] {
    OptionField.all(of: \.training) + OptionField.all(of: \.machine)
      + [.init("cache-format", \.cacheFormat), .init("cache-limit", \.cacheLimit)]
  }

  /// The cache in a folder. Side networks of one study read the same, whatever else the folder holds.
  public func cache(_ folder: String) -> CacheOptions {
    let format = training.method.method == .qlora ? cacheFormat : cacheFormat ?? .bf16
    return CacheOptions(directory: folder, format: format, limit: cacheLimit?.bytes)
  }
}

extension CacheFormat: OptionValue {}

/// One training, into a run's folder.
public struct TrainingJob: Codable, Sendable, Equatable {
  public var model: String
  /// The samples.
  public var data: String
  /// The run's folder; a run that it holds is gone on with.
  public var out: String
  public var options: TrainingOptions
  /// Nil runs the model for every step.
  public var cache: CacheOptions?
  public var machine = MachineOptions()

  public init(model: String, data: String, out: String, options: TrainingOptions) {
    self.model = model
    self.data = data
    self.out = out
    self.options = options
  }
}

/// One evaluation, of a run or of the model as it is.
public struct EvaluationJob: Codable, Sendable, Equatable {
  public var model: String
  /// The run's folder; nil judges the model as it is.
  public var run: String?
  public var data: String
  public var metric = Metric.auto
  public var maxLength: Int?
  public var overlong: Overlong?
  /// A file's path, and a JSON object.
  public var chatTemplate: String?
  public var chatTemplateOptions: String?
  public var maxTokens: Int?
  /// The activation cache's folder.
  public var cache: String?
  /// A file for what was predicted, a line a sample.
  public var predictions: String?
  public var machine = MachineOptions()

  public init(model: String, run: String?, data: String) {
    self.model = model
    self.run = run
    self.data = data
  }
}

/// Two steps of training in a process of their own, for their memory and time.
public struct MemoryJob: Codable, Sendable, Equatable {
  public var model: String
  public var method: MethodOptions
  /// Tokens of each sequence, and the sequences of a step.
  public var length: Int
  public var sequences = 1
  /// Rows that carry loss, as a share of the tokens.
  public var lossShare = 1.0
  public var machine = MachineOptions()

  public init(model: String, method: MethodOptions, length: Int) {
    self.model = model
    self.method = method
    self.length = length
  }
}
