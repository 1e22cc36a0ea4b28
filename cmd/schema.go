package cmd

import (
	"github.com/spf13/cobra"

	"github.com/fraiseql/observer/config"
)

func (p *program) schemaCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of the configuration file, for editors",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			schema, err := config.Schema(config.Options{Actions: p.registry.Configs()})
			if err != nil {
				return err
			}
			_, err = p.out.Write(schema)
			return err
		},
	}
}
