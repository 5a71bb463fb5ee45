# The suites that compute on a device, for test-accelerator and gpu-check: sourced by both.
numerical_suites='GradientTests|AttentionTests|SubstituteTests|TransposeTests|LadderSideTests|ForwardPassTests|HeadTests|SharedPromptTests|PreferenceTests|OptimiserTests|LadderLoRATests|QuantisationTests|ArchitectureTests|ParityTests|TrainingRunTests|TrainerTests|RanksTests|EvaluationTests'
