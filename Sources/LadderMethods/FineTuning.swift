import LadderBackbone
import LadderCompute
import LadderCore
import LadderData

/// A method's settings: what they need of a backbone, what they train, how that learns and predicts, and what it costs.
package protocol FineTuning: Sendable {
  /// As the field calls it: `lst`, `xladder`, `qlora`.
  var name: String { get }
  /// Whether the activations that it reads stay what they are, whatever is learned: an activation cache can hold them
  /// then, and llama.cpp runs them.
  var keepsActivations: Bool { get }
  /// What `Learner.initialise` does, where that takes a while.
  var preparation: String? { get }
  /// - Throws: `usage` for the first setting that is out of range.
  func validate() throws
  /// Its shape on a model.
  /// - Throws: `usage` for settings that do not fit the model.
  func outline(on model: ModelOutline) throws -> TuningOutline
  /// What it reads of the model's activations.
  /// - Throws: `usage` for settings that do not fit the model.
  func needs(on model: ModelOutline) throws -> TapNeeds
  /// What is trained on a model.
  /// - Throws: `usage` or `data` where the method cannot be used on the model.
  func parameters(on file: GGUFFile) throws -> [Parameters.Specification]
  /// Parameters that are all zero until they are initialised or restored.
  /// - Parameters:
  ///   - maxTokens: the longest sample.
  ///   - cache: where the model's activations are kept; only where `keepsActivations`.
  func learner(_ backbone: Backbone, maxTokens: Int, cache: ActivationCache?) throws -> any Learner
  /// What a run's folder holds, ready to use.
  func predictor(_ backbone: Backbone, weights: String, folder: String) throws -> any Predictor
  /// The peak memory of training, from shapes alone.
  func memory(_ model: ModelDimensions, _ load: TrainingLoad) throws -> MemoryBreakdown
  /// What answering with it takes beside the model, from shapes alone.
  func serving(_ model: ModelDimensions) throws -> ServingLoad
  /// Floating-point operations of training on `load.tokens` tokens, the head's aside; a multiplication and an addition
  /// are two.
  func operations(_ model: ModelDimensions, _ load: TrainingLoad) throws -> Double
  /// Seconds of one micro-batch of training, the head's aside.
  func seconds(_ model: ModelDimensions, _ load: TrainingLoad, on machine: any MeasuredMachine) throws -> Double
}

/// A method's shape on one model, for a reader and a run's manifest.
package struct TuningOutline: Sendable, Equatable {
  /// What is trained, as in `side network`, and its shape in words.
  package var noun: String
  package var text: String
  /// The tapped blocks, 1-based; none where no hidden states are read.
  package var rungs: [Int] = []
  package var width: Int?
  package var layers: Int?
}

/// What goes through at a time.
package struct TrainingLoad: Sendable {
  /// Tokens of the longest sample; the micro-batch holds at least as many.
  package var length: Int
  /// Tokens of a micro-batch.
  package var tokens: Int
  /// Rows of a micro-batch that carry loss.
  package var lossRows: Int

  package init(length: Int, tokens: Int, lossRows: Int) {
    self.length = length
    self.tokens = tokens
    self.lossRows = lossRows
  }
}

/// Speeds of this machine on the model at hand.
package protocol MeasuredMachine {
  /// Seconds of the backbone's forward pass per token, in samples of this length.
  func forward(length: Int) -> Double
  /// Blocks of the small model that trained parts are measured on; they are the model's own kind.
  var blocks: Int { get }
  /// Seconds per token that the trained part of a method takes on the small model, and of the optimiser per parameter.
  func trainedPart(_ method: TuningMethod, length: Int) throws -> (perToken: Double, optimiserPerParameter: Double)
}

/// What a session trains, and how a micro-batch goes through it.
package protocol Learner: AnyObject {
  var parameters: Parameters { get }
  /// Bytes that a micro-batch's activations and graphs take.
  var bytes: Int { get }
  /// Sets the parameters to their starting values, knowing the first samples.
  func initialise(seed: UInt64, _ samples: [PackedSample]) throws
  /// The bias on the head's input, [d], where there is one.
  var outputBias: Tensor? { get }
  /// Takes a micro-batch in; where hidden states are read, the backbone runs here.
  /// - Parameter keeps: whether a cache may store what the backbone computes.
  func read(_ samples: [PackedSample], keeps: Bool) throws
  /// The head's input at the loss rows as the model alone gives it, [d, rows]; after `read`, valid until `forward`.
  func referenceRows() throws -> Tensor
  /// The head's input at the loss rows, [d, rows]. `dropout` nil is for judging: nothing is dropped, and `backward`
  /// does not follow.
  func forward(dropout: SeededRandom?) throws -> Tensor
  /// The parameters whose gradients `backward` adds to at a time, in its order; one in several parts is done with after
  /// the last of them.
  var gradientParts: [[String]] { get }
  /// Adds the parameters' gradients to their buffers. Shapes: gradient [d, rows], with respect to what `forward`
  /// returned.
  /// - Parameter finished: called after each of `gradientParts`.
  func backward(_ gradient: Tensor, finished: (Int) throws -> Void) throws
  /// The weights and all that is needed to use them.
  func export() -> Safetensors
  func restore(_ file: Safetensors, from path: String) throws
  /// Writes files for other programs beside the weights.
  func writeExtras(to folder: String) throws
  /// What predicts with the parameters as they are; nil where that takes the files of a run.
  var predictor: (any Predictor)? { get }
}

extension Learner {
  package func read(_ samples: [PackedSample]) throws { try read(samples, keeps: true) }
  package func backward(_ gradient: Tensor) throws { try backward(gradient) { _ in } }
}
