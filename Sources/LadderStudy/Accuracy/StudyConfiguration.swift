import Foundation
import LadderCompute
import LadderCore
import LadderEval

/// What an accuracy study runs: methods × tasks × seeds. It is read from a YAML file; see `ladder study accuracy
/// --help`.
public struct StudyConfiguration: Codable, Sendable, Equatable {
  /// Options of `ladder train` by their long names.
  public typealias TrainOptions = [String: String]

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
    public var options: TrainOptions
    /// For one method on this task, by the method's name; they win over the method's own.
    public var methodOptions: [String: TrainOptions]

    public init(
      name: String, train: String, dev: String, metric: Metric = .auto, template: SampleTemplate? = nil,
      trainLimit: Int? = nil, devLimit: Int? = nil,
      maxTokens: Int? = nil, options: TrainOptions = [:], methodOptions: [String: TrainOptions] = [:]
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
    func options(of method: Method) -> TrainOptions { method.options.merging(methodOptions[method.name] ?? [:]) { $1 } }

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
      let c = try decoder.strictContainer(CodingKeys.self)
      self.init(
        name: try c.decode(String.self, forKey: .name), train: try c.decode(String.self, forKey: .train),
        dev: try c.decode(String.self, forKey: .dev),
        metric: try c.decodeIfPresent(Metric.self, forKey: .metric) ?? .auto,
        template: try c.decodeIfPresent(SampleTemplate.self, forKey: .template),
        trainLimit: try c.decodeIfPresent(Int.self, forKey: .trainLimit),
        devLimit: try c.decodeIfPresent(Int.self, forKey: .devLimit),
        maxTokens: try c.decodeIfPresent(Int.self, forKey: .maxTokens),
        options: try c.decodeIfPresent(TrainOptions.self, forKey: .options) ?? [:],
        methodOptions: try c.decodeIfPresent([String: TrainOptions].self, forKey: .methodOptions) ?? [:])
    }
  }

  /// One way to train. The model as it is, named `base`, is measured too.
  public struct Method: Codable, Sendable, Equatable {
    public var name: String
    public var options: TrainOptions

    public init(name: String, options: TrainOptions = [:]) {
      self.name = name
      self.options = options
    }

    enum CodingKeys: String, CodingKey, CaseIterable { case name, options }

    public init(from decoder: any Decoder) throws {
      let c = try decoder.strictContainer(CodingKeys.self)
      self.init(
        name: try c.decode(String.self, forKey: .name),
        options: try c.decodeIfPresent(TrainOptions.self, forKey: .options) ?? [:])
    }
  }

  public var model: String?
  public var seeds: [Int]
  /// A folder for the activation cache, which all runs share; nil runs the backbone every time.
  public var cache: String?
  /// Measure each method's speed and peak memory on a few steps that run the backbone, once a task.
  public var measuresCost: Bool
  /// Judge the model as it is too.
  public var measuresBase: Bool
  /// For every training.
  public var options: TrainOptions
  public var tasks: [Task]
  public var methods: [Method]

  public init(
    model: String? = nil, seeds: [Int] = [0], cache: String? = nil, measuresCost: Bool = true,
    measuresBase: Bool = true, options: TrainOptions = [:],
    tasks: [Task],
    methods: [Method] = [
      Method(name: "lst", options: ["method": "lst"]), Method(name: "xladder", options: ["method": "xladder"]),
    ]
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
    case measuresCost = "cost"
    case measuresBase = "base"
    case options, tasks, methods
  }

  public init(from decoder: any Decoder) throws {
    let c = try decoder.strictContainer(CodingKeys.self)
    self.init(
      model: try c.decodeIfPresent(String.self, forKey: .model),
      seeds: try c.decodeIfPresent([Int].self, forKey: .seeds) ?? [0],
      cache: try c.decodeIfPresent(String.self, forKey: .cache),
      measuresCost: try c.decodeIfPresent(Bool.self, forKey: .measuresCost) ?? true,
      measuresBase: try c.decodeIfPresent(Bool.self, forKey: .measuresBase) ?? true,
      options: try c.decodeIfPresent(TrainOptions.self, forKey: .options) ?? [:],
      tasks: try c.decode([Task].self, forKey: .tasks))
    if let methods = try c.decodeIfPresent([Method].self, forKey: .methods) { self.methods = methods }
  }

  /// - Throws: `usage` for what cannot be run.
  func validate() throws {
    func require(_ condition: Bool, _ message: String) throws {
      if !condition { throw LadderError(.usage, "the study: " + message) }
    }
    try require(!tasks.isEmpty, "it names no tasks")
    try require(!seeds.isEmpty, "it names no seeds")
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
    let own = ["model", "data", "valid", "out", "seed", "resume", "config", "cache"]
    for options in [options] + tasks.map(\.options) + methods.map(\.options) + tasks.flatMap(\.methodOptions.values) {
      for key in options.keys { try require(!own.contains(key), "the option \(key) is the study's own") }
    }
  }
}

/// Fills `{field}` places from the fields of a JSON line: samples out of lines of any form.
public struct SampleTemplate: Codable, Sendable, Equatable {
  public var prompt: String
  public var completion: String
  public var choices: [String]?
  public var answer: String?

  enum CodingKeys: String, CodingKey, CaseIterable { case prompt, completion, choices, answer }

  public init(prompt: String, completion: String, choices: [String]? = nil, answer: String? = nil) {
    self.prompt = prompt
    self.completion = completion
    self.choices = choices
    self.answer = answer
  }

  public init(from decoder: any Decoder) throws {
    let c = try decoder.strictContainer(CodingKeys.self)
    self.init(
      prompt: try c.decode(String.self, forKey: .prompt), completion: try c.decode(String.self, forKey: .completion),
      choices: try c.decodeIfPresent([String].self, forKey: .choices),
      answer: try c.decodeIfPresent(String.self, forKey: .answer))
  }

  /// One line of a JSONL file as a line that `ladder train` reads.
  func filled(_ line: [String: Any], place: String) throws -> [String: Any] {
    func fill(_ text: String) throws -> String {
      var result = "", rest = text[...]
      while let open = rest.firstIndex(of: "{"), let close = rest[open...].firstIndex(of: "}") {
        let field = String(rest[rest.index(after: open)..<close])
        guard let value = line[field] else {
          throw LadderError(.data, "\(place): no field \(field), which the task's template names")
        }
        result += rest[..<open] + ((value as? String) ?? (value as? NSNumber)?.stringValue ?? "\(value)")
        rest = rest[rest.index(after: close)...]
      }
      return result + rest
    }
    var sample: [String: Any] = ["prompt": try fill(prompt), "completion": try fill(completion)]
    if let choices { sample["choices"] = try choices.map(fill) }
    if let answer { sample["answer"] = try fill(answer) }
    return sample
  }
}

private struct AnyKey: CodingKey {
  var stringValue: String
  var intValue: Int? { nil }
  init?(stringValue: String) { self.stringValue = stringValue }
  init?(intValue: Int) { nil }
}

extension Decoder {
  /// A keyed container all of whose keys are known: a misspelled one is an error, not ignored.
  fileprivate func strictContainer<K: CodingKey & CaseIterable>(_ keys: K.Type) throws -> KeyedDecodingContainer<K> {
    let known = K.allCases.map(\.stringValue)
    for key in try container(keyedBy: AnyKey.self).allKeys where !known.contains(key.stringValue) {
      throw LadderError(
        .data, "the study's file: no key \(key.stringValue) here; take \(known.joined(separator: ", "))")
    }
    return try container(keyedBy: keys)
  }
}
