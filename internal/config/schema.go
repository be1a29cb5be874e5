package config

import (
	"encoding/json"
	"strings"

	"github.com/spf13/pflag"
)

// Schema is the JSON schema of a file of settings (draft 2020-12), for editors.
func Schema(flags *pflag.FlagSet, title string) []byte {
	properties := map[string]any{}
	flags.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			properties[setting(f.Name)] = property(f)
		}
	})
	b, _ := json.MarshalIndent(map[string]any{ // of these types nothing fails
		"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title,
		"type": "object", "properties": properties, "additionalProperties": false,
	}, "", "  ")
	return append(b, '\n')
}

func property(f *pflag.Flag) map[string]any {
	p := map[string]any{"description": strings.ReplaceAll(strings.ReplaceAll(f.Usage, "`", ""), "\n", " ")}
	switch f.Value.Type() {
	case "bool":
		p["type"], p["default"] = "boolean", f.DefValue == "true"
	case "int", "int64":
		p["type"], p["default"] = "integer", json.Number(f.DefValue)
	case "duration":
		p["type"], p["pattern"], p["default"] = "string", `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$|^0$`, f.DefValue
	case "stringSlice", "stringArray":
		p["type"], p["items"] = "array", map[string]any{"type": "string"}
	default: // a number is as good a text
		p["type"], p["default"] = []string{"string", "number"}, f.DefValue
	}
	return p
}
