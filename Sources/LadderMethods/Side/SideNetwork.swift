import LadderBackbone
import LadderCompute

/// A ladder side network: the only thing that is trained.
///
///     x_j = D_j·z(rms(h_r(j)))                       projections of the tapped hidden states
///     s_j = F_j(g_j·x_j + (1 − g_j)·s_{j−1})         side layers; s_0 = x_1, g_j = σ(a_j / τ); F_j(s_{j−1}) for free ones
///     Δ   = U·rms(s_M) (+ b) at the loss rows        added to the final norm's rows before the frozen head
///
/// Sung et al., "LST" (NeurIPS 2022), §3; Zheng et al., "Ladder Up, Memory Down" (arXiv 2512.14237), §3.
package final class SideNetwork {
  package let configuration: SideConfiguration
  package let geometry: SideGeometry
  package let parameters: Parameters
  package private(set) var statistics: TapStatistics
  package let engine: Engine
  private var means: [Tensor] = []
  private var inverseDeviations: [Tensor] = []
  private let constants: TensorPool

  /// A network whose parameters are all zero.
  package init(_ configuration: SideConfiguration, _ geometry: SideGeometry, _ engine: Engine, trainable: Bool) throws {
    self.configuration = configuration
    self.geometry = geometry
    self.engine = engine
    parameters = try Parameters(
      Self.specifications(configuration, geometry), engine, trainable: trainable,
      products: configuration.precision.elementType)
    statistics = .identity(rungs: geometry.rungs.count, width: geometry.backboneWidth)
    constants = TensorPool(engine, tensors: 2 * geometry.rungs.count + 8)
    try setStatistics(statistics)
  }

  package func setStatistics(_ statistics: TapStatistics) throws {
    self.statistics = statistics
    try constants.reset()
    means = try statistics.means.map { try constants.make($0, [geometry.backboneWidth]) }
    inverseDeviations = try statistics.deviations.map {
      try constants.make($0.map { 1 / $0 }, [geometry.backboneWidth])
    }
  }

  /// The tensors that a rung is standardised by.
  func statisticsTensors(rung: Int) -> [Tensor] { [means[rung], inverseDeviations[rung]] }

  // MARK: - Parameters

  package static func specifications(_ configuration: SideConfiguration, _ geometry: SideGeometry) -> [Parameters
    .Specification]
  {
    func matrix(_ name: String, _ columns: Int, _ rows: Int) -> Parameters.Specification {
      .init(name, [columns, rows])
    }
    func vector(_ name: String, _ count: Int) -> Parameters.Specification { .init(name, [count], decays: false) }
    let backboneWidth = geometry.backboneWidth
    let width = geometry.width
    let attentionWidth = geometry.attentionWidth
    let feedForward = geometry.feedForward
    var list: [Parameters.Specification] = []
    for rung in geometry.rungs.indices {
      switch configuration.downsampler {
      case .linear: list.append(matrix("down.\(rung).weight", backboneWidth, width))
      case .lowRank(let rank):
        list += [matrix("down.\(rung).a", backboneWidth, rank), matrix("down.\(rung).b", rank, width)]
      case .pool: break
      }
    }
    for layer in 0..<geometry.layers {
      let prefix = "layers.\(layer)."
      if layer > 0, geometry.rung(ofLayer: layer) != nil {
        switch configuration.gates ?? .scalar {
        case .scalar: list.append(vector(prefix + "gate", 1))
        case .channel: list.append(vector(prefix + "gate", width))
        case .lstm:
          list += [
            matrix(prefix + "gate_input", width, width), matrix(prefix + "gate_state", width, width),
            vector(prefix + "gate", width),
          ]
        case .sum: break
        }
      }
      if configuration.cross == .mixture { list.append(vector(prefix + "mixture", geometry.rungs.count)) }
      list += [
        vector(prefix + "attention_norm", width),
        matrix(prefix + "q", width, attentionWidth),
        matrix(prefix + "k", width, attentionWidth),
        matrix(prefix + "v", width, attentionWidth),
        matrix(prefix + "o", attentionWidth, width),
        vector(prefix + "feed_forward_norm", width),
        matrix(prefix + "feed_forward_gate", width, feedForward),
        matrix(prefix + "feed_forward_up", width, feedForward),
        matrix(prefix + "feed_forward_down", feedForward, width),
      ]
    }
    list.append(matrix("up.weight", width, backboneWidth))
    if configuration.outputBias == true { list.append(vector("up.bias", backboneWidth)) }
    return list
  }

  /// What `correction` reads.
  package var outputNames: [String] { parameters.specifications.map(\.name).filter { $0.hasPrefix("up.") } }

  /// b, [d], where there is one.
  package var outputBias: Tensor? { configuration.outputBias == true ? parameters["up.bias"] : nil }

  package func downsamplerNames(_ rung: Int) -> [String] {
    parameters.specifications.map(\.name).filter { $0.hasPrefix("down.\(rung).") }
  }

  package func layerNames(_ layer: Int) -> [String] {
    parameters.specifications.map(\.name).filter { $0.hasPrefix("layers.\(layer).") }
      + rungs(ofLayer: layer).flatMap(downsamplerNames)
  }

  /// The rungs that a layer reads.
  private func rungs(ofLayer layer: Int) -> [Int] {
    configuration.cross == .mixture ? Array(geometry.rungs.indices) : geometry.rung(ofLayer: layer).map { [$0] } ?? []
  }

  // MARK: - Forward

  /// A tape whose products are in the configured precision, and which keeps what `results` keeps.
  package func tape(_ graph: Graph, _ results: KeptResults? = nil, outputIsRead: Bool = true) -> Tape {
    Tape(
      graph, parameters: parameters, products: configuration.precision.elementType, results: results,
      outputIsRead: outputIsRead)
  }

  /// z(rms(h)), with dropout where a mask is given. Shapes: tap [d, n] BF16; mask [d, n] F32 → [d, n] F32.
  package func standardised(_ graph: Graph, _ tap: Tensor, rung: Int, mask: Tensor?) -> Tensor {
    var z = graph.rmsNorm(graph.cast(tap, .float32), configuration.normEpsilon)
    if configuration.tapNorm != .rms { z = graph.multiply(graph.subtract(z, means[rung]), inverseDeviations[rung]) }
    return mask.map { graph.multiply(z, $0) } ?? z
  }

  /// x = D·z. Shapes: z [d, n] → [w, n].
  package func downsample(_ tape: Tape, _ z: Tensor, rung: Int) -> Tensor {
    let x =
      switch configuration.downsampler {
      case .linear: tape.projectTap(z, parameters["down.\(rung).weight"], keeps: tape.keepsProducts)
      case .lowRank:
        tape.project(
          tape.projectTap(z, parameters["down.\(rung).a"], keeps: tape.keepsProducts), parameters["down.\(rung).b"])
      case .pool: tape.pool(tape.graph.cast(z, .float32), width: geometry.width)
      }
    return configuration.tapNorm == .downsampled ? tape.rmsNorm(x, epsilon: configuration.normEpsilon) : x
  }

  /// x_j: the layer's own rung, or a mixture Σ_r softmax(m_j)_r·x_r of all; nil for a free layer. Shapes: taps, each
  /// [d, n] → [w, n].
  private func input(_ tape: Tape, _ j: Int, _ taps: [Tensor]) -> Tensor? {
    let rungs = rungs(ofLayer: j)
    if rungs.isEmpty { return nil }
    guard configuration.cross == .mixture else { return downsample(tape, taps[rungs[0]], rung: rungs[0]) }
    let shares = tape.softmax(parameters["layers.\(j).mixture"])  // [rungs]
    let parts = rungs.map { tape.multiply(downsample(tape, taps[$0], rung: $0), tape.element($0, of: shares)) }
    return parts.dropFirst().reduce(parts[0], tape.add)
  }

  /// What a layer makes of what it reads and of the layer below. Shapes: x, s, result [w, n].
  private func gated(_ tape: Tape, _ j: Int, _ x: Tensor, _ s: Tensor) -> Tensor {
    func parameter(_ name: String) -> Tensor { parameters["layers.\(j).\(name)"] }
    switch configuration.gates ?? .scalar {
    case .scalar, .channel: return tape.gate(x, s, parameter("gate"), temperature: configuration.gateTemperature)
    case .lstm:
      let sum = tape.add(tape.project(x, parameter("gate_input")), tape.project(s, parameter("gate_state")))
      return tape.add(s, tape.multiply(tape.subtract(x, s), tape.sigmoid(tape.shift(sum, by: parameter("gate")))))
    case .sum: return tape.add(x, s)
    }
  }

  /// s_j from s_{j−1} and the standardised taps: gate, attention, SwiGLU. Shapes: previous, result [w, n]; taps, each
  /// [d, n]; positions [n].
  ///
  /// - Parameter attend: attention over the layer's q, k, v, each [head, heads, n].
  package func layer(
    _ tape: Tape, _ j: Int, previous: Tensor?, taps: [Tensor], positions: Tensor,
    attend: (Tensor, Tensor, Tensor) -> Tensor
  ) -> Tensor {
    let n = taps[0][1]
    let epsilon = configuration.normEpsilon
    func parameter(_ name: String) -> Tensor { parameters["layers.\(j).\(name)"] }
    // s_0 = x_1: the first layer's mixture is x_1 whatever its gate, so it has none. A free layer goes on with s_{j−1}.
    let gated: Tensor  // [w, n]
    switch (input(tape, j, taps), previous) {
    case (let x?, let s?): gated = self.gated(tape, j, x, s)
    case (let x?, nil): gated = x
    case (nil, let s?): gated = s
    case (nil, nil): preconditionFailure("the first layer reads a rung")
    }

    let attentionInput = tape.multiply(tape.rmsNorm(gated, epsilon: epsilon), parameter("attention_norm"))  // [w, n]
    func project(_ x: Tensor, _ name: String) -> Tensor {
      tape.project(x, parameter(name), keeps: tape.keepsProducts)
    }
    func heads(_ name: String) -> Tensor {  // [head, heads, n]
      tape.reshape(project(attentionInput, name), [geometry.headSize, geometry.heads, n])
    }
    let q = tape.rope(heads("q"), positions: positions, base: configuration.ropeBase)
    let k = tape.rope(heads("k"), positions: positions, base: configuration.ropeBase)
    let mixed = tape.reshape(attend(q, k, heads("v")), [geometry.attentionWidth, n])
    let middle = tape.add(gated, project(mixed, "o"))  // [w, n]

    let feedForwardInput = tape.multiply(tape.rmsNorm(middle, epsilon: epsilon), parameter("feed_forward_norm"))
    let inner = tape.swiglu(
      gate: project(feedForwardInput, "feed_forward_gate"), up: project(feedForwardInput, "feed_forward_up"))
    return tape.add(middle, tape.project(inner, parameter("feed_forward_down"), unreadAs: middle))  // [w, n]
  }

  /// Δ = U·rms(s), and + b where there is a bias. Shapes: s [w, rows] → [d, rows].
  package func correction(_ tape: Tape, _ s: Tensor) -> Tensor {
    let product = tape.project(tape.rmsNorm(s, epsilon: configuration.normEpsilon), parameters["up.weight"])
    return outputBias.map { tape.shift(product, by: $0) } ?? product
  }
}
