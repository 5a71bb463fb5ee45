import LadderMethods
import LadderTrain

extension TrainingConfiguration {
  /// The side network's settings; setting them makes it the method.
  package var side: SideConfiguration {
    get {
      if case .ladder(let side) = method { return side }
      return SideConfiguration()
    }
    set { method = .ladder(newValue) }
  }
}
