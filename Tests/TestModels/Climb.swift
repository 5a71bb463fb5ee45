import LadderMethods

/// How a side network in a test meets its rungs: one climb, more, a mixture, or layers that read nothing;
/// and how it takes in what it reads.
package struct Climb: Sendable {
  package var passes = 1
  package var cross = SideConfiguration.CrossConnection.reclimb
  package var depth: Int?
  package var gates: SideConfiguration.Gates?

  package init(
    passes: Int = 1, cross: SideConfiguration.CrossConnection = .reclimb, depth: Int? = nil,
    gates: SideConfiguration.Gates? = nil
  ) {
    self.passes = passes
    self.cross = cross
    self.depth = depth
    self.gates = gates
  }

  package static let all = [
    Climb(), Climb(passes: 2), Climb(passes: 2, cross: .mixture), Climb(depth: 2), Climb(gates: .channel),
    Climb(depth: 2, gates: .lstm),
    Climb(gates: .sum),
  ]

  package func apply(_ configuration: inout SideConfiguration) {
    configuration.passes = passes
    configuration.cross = cross
    configuration.depth = depth
    configuration.gates = gates
  }
}
