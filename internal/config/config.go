// Package config reads a command's settings from a file. Its rule: a setting is a
// flag and a flag is a setting, so that there is one list of them, one check and
// one documentation; what is given on the command line wins.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"github.com/spf13/pflag"
	yaml "sigs.k8s.io/yaml/goyaml.v3"
)

// setting is the name of a flag in the file: "orphanTimeout" of "orphan-timeout".
func setting(flag string) string {
	var b strings.Builder
	up := false
	for _, r := range flag {
		if r == '-' {
			up = true
			continue
		}
		if up {
			r, up = unicode.ToUpper(r), false
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Apply sets the flags that a file names, but for those that are set already. file
// is its name, for errors: each names the line, the setting, and what to do. All of
// it is checked.
func Apply(flags *pflag.FlagSet, file string, content []byte) error {
	top, err := lines(file, content)
	if top == nil {
		return err
	}
	byKey := map[string]*pflag.Flag{}
	flags.VisitAll(func(f *pflag.Flag) { byKey[setting(f.Name)] = f })
	seen := map[string]int{}
	var errs []error
	for i := 0; i+1 < len(top.Content); i += 2 {
		key, value := top.Content[i], top.Content[i+1]
		f := byKey[key.Value]
		switch before, twice := seen[key.Value]; {
		case twice:
			errs = append(errs, fmt.Errorf("%s:%d: %s is set in line %d already", file, key.Line, key.Value, before))
			continue
		case f == nil:
			errs = append(errs, fmt.Errorf("%s:%d: there is no setting %q%s", file, key.Line, key.Value, meant(key.Value, byKey)))
			continue
		}
		seen[key.Value] = key.Line
		if err := set(flags, f, value); err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %s: %w", file, value.Line, key.Value, err))
		}
	}
	return errors.Join(errs...)
}

// lines are the settings of a file; nil: there are none.
func lines(file string, content []byte) (*yaml.Node, error) {
	var doc, more yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(content))
	err := d.Decode(&doc)
	if err == io.EOF {
		return nil, nil
	}
	if err == nil {
		err = d.Decode(&more)
	}
	if err == nil {
		return nil, fmt.Errorf("%s:%d: settings are one document; remove this line, if what follows belongs to it", file, more.Line)
	}
	if err != io.EOF {
		return nil, fmt.Errorf("%s: it is no YAML: %w", file, err)
	}
	top := doc.Content[0]
	if top.Kind == yaml.ScalarNode && top.Tag == "!!null" { // nothing but comments
		return nil, nil
	}
	if top.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s:%d: settings are lines of KEY: VALUE", file, top.Line)
	}
	return top, nil
}

func set(flags *pflag.FlagSet, f *pflag.Flag, value *yaml.Node) error {
	list, isList := f.Value.(pflag.SliceValue)
	switch {
	case isList && value.Kind == yaml.SequenceNode:
		var all []string
		for _, n := range value.Content {
			if n.Kind != yaml.ScalarNode {
				return fmt.Errorf("line %d: give texts", n.Line)
			}
			all = append(all, n.Value)
		}
		if f.Changed {
			return nil
		}
		f.Changed = true
		return list.Replace(all)
	case isList:
		return errors.New("give a list, such as [a, b]")
	case value.Kind != yaml.ScalarNode:
		return fmt.Errorf("give one value, of type %s", f.Value.Type())
	case f.Changed: // on the command line; but a mistake is one
		was := f.Value.String()
		if err := f.Value.Set(value.Value); err != nil {
			return errors.Join(wanted(f, value.Value, err), f.Value.Set(was))
		}
		return f.Value.Set(was)
	}
	if err := flags.Set(f.Name, value.Value); err != nil {
		return wanted(f, value.Value, err)
	}
	return nil
}

// wanted says what a setting takes. A type that is the program's own says so itself.
func wanted(f *pflag.Flag, value string, err error) error {
	takes, ours := map[string]string{
		"bool": "true or false", "duration": "a duration, such as 10s, 15m or 1h", "int": "a number",
	}[f.Value.Type()]
	if !ours {
		return err
	}
	return fmt.Errorf("%q is not what it takes: give %s", value, takes)
}

// meant names the setting that was likely meant, if there is one.
func meant(key string, all map[string]*pflag.Flag) string {
	letters := func(s string) string {
		return strings.Map(func(r rune) rune {
			if !unicode.IsLetter(r) && !unicode.IsDigit(r) {
				return -1
			}
			return unicode.ToLower(r)
		}, s)
	}
	names := make([]string, 0, len(all))
	for name, f := range all {
		if letters(name) == letters(key) {
			return fmt.Sprintf("; you mean %s", name)
		}
		if !f.Hidden {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return "; there are " + strings.Join(names, ", ")
}
