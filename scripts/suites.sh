# The suites that compute on a device, for test-accelerator and gpu-check: sourced by both.
numerical_suites='GradientTests|LadderTests|ForwardPassTests|HeadTests|SharedPromptTests|PreferenceTests|OptimiserTests|LoRATests|QuantisationTests|ArchitectureTests|ParityTests|TrainingRunTests|AcceleratorTests'
