package config

// SMTP is the [smtp] table.
type SMTP struct {
	Host        string `toml:"host" default:"localhost" doc:"name of the mail server"`
	Port        int    `toml:"port" default:"587" min:"1" max:"65535" doc:"port of the mail server"`
	TLS         string `toml:"tls" default:"start_tls" enum:"start_tls,tls,none" doc:"how the connection is encrypted"`
	From        string `toml:"from" doc:"sender, such as Orders <orders@example.com>"`
	UsernameEnv string `toml:"username_env" doc:"environment variable that holds the user name"`
	PasswordEnv string `toml:"password_env" doc:"environment variable that holds the password"`
	TimeoutSecs int    `toml:"timeout_secs" default:"30" min:"1" max:"3600" doc:"seconds to send one mail"`
}
