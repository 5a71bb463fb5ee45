import LadderMethods

/// How a side network in a test meets its rungs: one climb, more, or a mixture.
package struct Climb: Sendable {
  package let passes: Int
  package let cross: SideConfiguration.CrossConnection

  package static let all = [
    Climb(passes: 1, cross: .reclimb), Climb(passes: 2, cross: .reclimb), Climb(passes: 2, cross: .mixture),
  ]

  package func apply(_ configuration: inout SideConfiguration) {
    configuration.passes = passes
    configuration.cross = cross
  }
}
