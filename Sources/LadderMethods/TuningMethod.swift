import LadderBackbone
import LadderCore

/// What is trained on a frozen model. The one list of methods: whatever else differs between them, they answer through
/// `FineTuning`.
public enum TuningMethod: Sendable, Equatable {
  /// A side network on the model's hidden states: LST, and with more than one climb xLadder.
  case ladder(SideConfiguration)
  /// Low-rank matrices inside the model: QLoRA.
  case lora(LoRAConfiguration)

  /// What it needs, trains and costs.
  package var tuning: any FineTuning {
    switch self {
    case .ladder(let configuration): configuration
    case .lora(let configuration): configuration
    }
  }

  /// `lst`, `xladder` or `qlora`.
  public var name: String { tuning.name }

  /// What is trained on a model, and its shape in words.
  /// - Throws: `usage` for settings that do not fit the model.
  package func described(on model: ModelOutline) throws -> (noun: String, text: String) {
    let outline = try tuning.outline(on: model)
    return (outline.noun, outline.text)
  }

  /// Whether the model's activations, as far as they are read, stay what they are, whatever is learned: they can be cached, and llama.cpp
  /// runs the blocks.
  public var keepsActivations: Bool { tuning.keepsActivations }

  /// What it reads of a model's activations.
  /// - Throws: `usage` for settings that do not fit the model.
  package func needs(of model: ModelOutline) throws -> TapNeeds { try tuning.needs(on: model) }
}

extension TuningMethod {
  /// With what is left open set to what it stands for.
  package var spelledOut: TuningMethod {
    switch self {
    case .ladder(var side):
      side.gates = side.gates ?? .scalar
      side.outputBias = side.outputBias ?? false
      side.free = side.free ?? side.depth
      return .ladder(side)
    case .lora(var lora):
      lora.targets = LoRAConfiguration.Target.allCases.filter(lora.targets.contains)
      return .lora(lora)
    }
  }
}

extension TuningMethod: Codable {
  private enum Key: String, CodingKey { case ladder, lora }

  public init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: Key.self)
    if let lora = try container.decodeIfPresent(LoRAConfiguration.self, forKey: .lora) {
      self = .lora(lora)
    } else {
      self = .ladder(try container.decode(SideConfiguration.self, forKey: .ladder))
    }
  }

  public func encode(to encoder: any Encoder) throws {
    var container = encoder.container(keyedBy: Key.self)
    switch self {
    case .ladder(let configuration): try container.encode(configuration, forKey: .ladder)
    case .lora(let configuration): try container.encode(configuration, forKey: .lora)
    }
  }
}
