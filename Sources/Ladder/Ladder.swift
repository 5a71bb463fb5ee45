// `import Ladder` gives the public interface of the modules that a program needs.
@_exported import LadderBackbone
@_exported import LadderCompute
@_exported import LadderCore
@_exported import LadderData
@_exported import LadderEval
@_exported import LadderInference
@_exported import LadderMethods
@_exported import LadderTrain
