import Foundation
import LadderCompute
import LadderCore
import LadderEval
import LadderMethods

/// What an accuracy study runs: methods × tasks × seeds. It is read from a YAML file; see `ladder study accuracy
/// --help`.
public struct StudyConfiguration: Codable, Sendable, Equatable {
  /// One task: where its samples are and how they are judged.
  public struct Task: Codable, Sendable, Equatable {
    public var name: String
    public var train: String
    public var dev: String
    public var metric: Metric
    /// Makes samples out of lines of any other form.
    public var template: SampleTemplate?
    /// Take only the first lines.
    public var trainLimit: Int?
    public var devLimit: Int?
    /// Tokens that exact match generates at most.
    public var maxTokens: Int?
    /// For every method.
    public var options: RunOptions
    /// For one method on this task, by the method's name; they win over the method's own.
    public var methodOptions: [String: RunOptions]

    public init(
      name: String, train: String, dev: String, metric: Metric = .auto, template: SampleTemplate? = nil,
      trainLimit: Int? = nil, devLimit: Int? = nil,
      maxTokens: Int? = nil, options: RunOptions = RunOptions(), methodOptions: [String: RunOptions] = [:]
    ) {
      self.name = name
      self.train = train
      self.dev = dev
      self.metric = metric
      self.template = template
      self.trainLimit = trainLimit
      self.devLimit = devLimit
      self.maxTokens = maxTokens
      self.options = options
      self.methodOptions = methodOptions
    }

    /// The options that are `method`'s own on this task.
    func options(of method: Method) -> RunOptions {
      methodOptions[method.name]?.over(method.options) ?? method.options
    }

    /// Whether no run of `methods` would differ: options of other methods do not count.
    func isLike(_ other: Task, for methods: [Method]) -> Bool {
      var same = other
      same.methodOptions = methodOptions
      return self == same && methods.allSatisfy { options(of: $0) == other.options(of: $0) }
    }

    enum CodingKeys: String, CodingKey, CaseIterable {
      case name, train, dev, metric, template
      case trainLimit = "train-limit"
      case devLimit = "dev-limit"
      case maxTokens = "max-tokens"
      case options
      case methodOptions = "method-options"
    }

    public init(from decoder: any Decoder) throws {
      let values = try decoder.strictContainer(CodingKeys.self)
      self.init(
        name: try values.decode(String.self, forKey: .name), train: try values.decode(String.self, forKey: .train),
        dev: try values.decode(String.self, forKey: .dev),
        metric: try values.decodeIfPresent(Metric.self, forKey: .metric) ?? .auto,
        template: try values.decodeIfPresent(SampleTemplate.self, forKey: .template),
        trainLimit: try values.decodeIfPresent(Int.self, forKey: .trainLimit),
        devLimit: try values.decodeIfPresent(Int.self, forKey: .devLimit),
        maxTokens: try values.decodeIfPresent(Int.self, forKey: .maxTokens),
        options: try values.decodeIfPresent(RunOptions.self, forKey: .options) ?? RunOptions(),
        methodOptions: try values.decodeIfPresent([String: RunOptions].self, forKey: .methodOptions) ?? [:])
    }
  }

  /// One way to train. The model as it is, named `base`, is measured too.
  public struct Method: Codable, Sendable, Equatable {
    public var name: String
    public var options: RunOptions

    public init(name: String, options: RunOptions = RunOptions()) {
      self.name = name
      self.options = options
    }

    /// A method of training under its own name.
    public init(_ name: MethodOptions.Name) {
      self.init(name: name.rawValue)
      options.training.method.method = name
    }

    enum CodingKeys: String, CodingKey, CaseIterable { case name, options }

    public init(from decoder: any Decoder) throws {
      let values = try decoder.strictContainer(CodingKeys.self)
      self.init(
        name: try values.decode(String.self, forKey: .name),
        options: try values.decodeIfPresent(RunOptions.self, forKey: .options) ?? RunOptions())
    }
  }

  public var model: String?
  public var seeds: [Int]
  /// A folder for the activation cache, which all runs share; nil runs the backbone every time.
  public var cache: String?
  /// Give each run a cache of its own, which is gone when it ends: its later epochs read what its first has kept.
  public var cachesEachRun = false
  /// Measure each method's speed and peak memory on a few steps that run the backbone, once a task.
  public var measuresCost: Bool
  /// Judge the model as it is too.
  public var measuresBase: Bool
  /// For every training.
  public var options: RunOptions
  public var tasks: [Task]
  public var methods: [Method]
  /// Whether the methods were named, and are not the default.
  public var namesMethods = true

  public init(
    model: String? = nil, seeds: [Int] = [0], cache: String? = nil, measuresCost: Bool = true,
    measuresBase: Bool = true, options: RunOptions = RunOptions(),
    tasks: [Task],
    methods: [Method] = [Method(.lst), Method(.xladder)]
  ) {
    self.model = model
    self.seeds = seeds
    self.cache = cache
    self.measuresCost = measuresCost
    self.measuresBase = measuresBase
    self.options = options
    self.tasks = tasks
    self.methods = methods
  }

  enum CodingKeys: String, CodingKey, CaseIterable {
    case model, seeds, cache
    case cachesEachRun = "cache-each-run"
    case measuresCost = "cost"
    case measuresBase = "base"
    case options, tasks, methods
  }

  public init(from decoder: any Decoder) throws {
    let values = try decoder.strictContainer(CodingKeys.self)
    self.init(
      model: try values.decodeIfPresent(String.self, forKey: .model),
      seeds: try values.decodeIfPresent([Int].self, forKey: .seeds) ?? [0],
      cache: try values.decodeIfPresent(String.self, forKey: .cache),
      measuresCost: try values.decodeIfPresent(Bool.self, forKey: .measuresCost) ?? true,
      measuresBase: try values.decodeIfPresent(Bool.self, forKey: .measuresBase) ?? true,
      options: try values.decodeIfPresent(RunOptions.self, forKey: .options) ?? RunOptions(),
      tasks: try values.decode([Task].self, forKey: .tasks))
    cachesEachRun = try values.decodeIfPresent(Bool.self, forKey: .cachesEachRun) ?? false
    if let methods = try values.decodeIfPresent([Method].self, forKey: .methods) { self.methods = methods }
    namesMethods = values.contains(.methods)
  }

  /// - Throws: `usage` for what cannot be run.
  func validate() throws {
    func require(_ condition: Bool, _ message: String) throws {
      if !condition { throw LadderError(.usage, "the study: " + message) }
    }
    try require(!tasks.isEmpty, "it names no tasks")
    try require(!seeds.isEmpty && seeds.allSatisfy { $0 >= 0 }, "it wants seeds of 0 or more")
    try require(Set(seeds).count == seeds.count, "a seed is there twice")
    for (what, names) in [("task", tasks.map(\.name)), ("method", methods.map(\.name) + ["base"])] {
      try require(Set(names).count == names.count, "two \(what)s share a name (base is the model as it is)")
      for name in names {
        try require(
          !name.isEmpty && !name.contains("/") && !name.hasPrefix("."),
          "\(name.debugDescription) cannot name a \(what): it names a folder too")
      }
    }
    for task in tasks {
      for name in task.methodOptions.keys.sorted() {
        try require(
          methods.contains { $0.name == name }, "\(task.name) has options for \(name), which is no method of it")
      }
    }
    for options in [options] + tasks.map(\.options) + methods.map(\.options) + tasks.flatMap(\.methodOptions.values) {
      try require(options.training.seed == nil, "the option seed is the study's own")
    }
    for task in tasks { for method in methods { _ = try options(task, method).training.configuration() } }
  }

  /// The options of one method's runs on one task.
  func options(_ task: Task, _ method: Method) -> RunOptions {
    task.options(of: method).over(task.options).over(options)
  }
}
