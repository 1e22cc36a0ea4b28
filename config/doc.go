// Package config turns the configuration file and the environment into one typed [Config].
//
// Every key is declared once, as a struct field of the component that it configures; its struct tags say the rest:
//
//	toml      name of the key
//	default   value when nothing sets it
//	env       shorter environment variables beside FRAISEQL_<PATH>, comma-separated
//	envempty  "true": a variable that is set and empty counts, because "" means something; elsewhere it counts as not set
//	envalias  more values that the environment may use, "memory=in_memory,…"
//	enum      allowed values, comma-separated
//	min, max  bounds of a number or a duration
//	pattern   regular expression that a text must match
//	required  "true": the key must be set
//	single    "true": one value may stand alone instead of a list
//	oneof     exactly one of the keys with the same word must be set
//	doc       description in the JSON Schema
//
// Start reading at load.go.
package config
