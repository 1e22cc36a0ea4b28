package middleware

// RetryConfig is the [observers.retry] table of the configuration file.
type RetryConfig struct {
	MaxAttempts     int    `toml:"max_attempts" default:"15" min:"1" max:"1000" doc:"attempts in all before a delivery becomes a dead letter"`
	InitialDelayMS  int    `toml:"initial_delay_ms" default:"1000" min:"1" max:"86400000" doc:"delay before the second attempt, in milliseconds"`
	MaxDelayMS      int    `toml:"max_delay_ms" default:"3600000" min:"1" max:"86400000" doc:"longest delay between two attempts, in milliseconds"`
	BackoffStrategy string `toml:"backoff_strategy" default:"exponential" enum:"exponential,linear,fixed" doc:"how the delay grows"`
	Jitter          bool   `toml:"jitter" default:"true" doc:"multiply each delay by a random factor between 0.5 and 1"`
}
