/// The library's messages name settings as the library does, in backquotes (`learningRate`); users of the command know
/// them as flags.
enum FlagNames {
  /// Settings whose flags have other names.
  private static let other = [
    "averaging": "average", "downsampler": "downsample", "eightBitOptimiser": "optimizer",
    "filtersGradient": "exact-gradient", "initialisation": "init", "into": "out", "microBatchTokens": "micro-batch",
    "preference.loss": "preference-loss", "statisticsRows": "tap-statistics", "teraOperations": "tflop",
  ]

  /// `text` with each name in backquotes as a flag: "lower `learningRate`" becomes "lower --learning-rate". Other texts
  /// in backquotes, which a user may have written, stay.
  static func flags(in text: String) -> String {
    let parts = text.split(separator: "`", omittingEmptySubsequences: false)
    var result = "", index = 0
    while index < parts.count {
      let isName = index > 0 && index + 1 < parts.count && !parts[index].isEmpty
      if isName, let flag = flag(String(parts[index])) {
        result += flag + parts[index + 1]
        index += 2
        continue
      }
      result += (index > 0 ? "`" : "") + parts[index]
      index += 1
    }
    return result
  }

  private static func flag(_ setting: String) -> String? {
    guard setting.allSatisfy({ $0.isASCII && ($0.isLetter || $0 == ".") }), setting.first?.isLowercase == true else {
      return nil
    }
    // A setting of a part, as a manifest names it: method.ladder.tapDropout.
    let name = setting.split(separator: ".").last.map(String.init) ?? setting
    if let other = other[setting] ?? other[name] { return "--" + other }
    return "--" + name.reduce(into: "") { $0 += $1.isUppercase ? "-" + $1.lowercased() : String($1) }
  }
}
