/// llama.cpp's names for how a model's file is quantised as a whole.
extension GGUFFile {
  /// Of `general.file_type`, else the type that holds most of the weights: `Q4_K_M`, as files are called by it.
  package var quantisation: String {
    if let number = integer("general.file_type"), let name = Self.fileTypes[number] { return name }
    let bytes = Dictionary(grouping: tensors, by: \.type).mapValues { $0.reduce(0) { $0 + $1.bytes } }
    return bytes.max { ($0.value, $1.key) < ($1.value, $0.key) }?.key ?? "F32"
  }

  private static let fileTypes = [
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
    13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS",
    21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S",
    29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4_MOE",
  ]
}
