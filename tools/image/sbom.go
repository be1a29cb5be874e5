package main

import (
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// The parts of SPDX 2.3 (https://spdx.github.io/spdx-spec/v2.3) that a list of Go
// modules needs.
type document struct {
	SPDXVersion   string         `json:"spdxVersion"`
	DataLicense   string         `json:"dataLicense"`
	SPDXID        string         `json:"SPDXID"`
	Name          string         `json:"name"`
	Namespace     string         `json:"documentNamespace"`
	CreationInfo  creation       `json:"creationInfo"`
	Packages      []pkg          `json:"packages"`
	Relationships []relationship `json:"relationships"`
}

type creation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type pkg struct {
	Name     string `json:"name"`
	SPDXID   string `json:"SPDXID"`
	Version  string `json:"versionInfo,omitempty"`
	Location string `json:"downloadLocation"`
	Analyzed bool   `json:"filesAnalyzed"`
	Refs     []ref  `json:"externalRefs,omitempty"`
}

type ref struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type relationship struct {
	Element string `json:"spdxElementId"`
	Type    string `json:"relationshipType"`
	Related string `json:"relatedSpdxElement"`
}

// sbom lists what an executable is made of, by its own word: the Go release, and the
// modules that were linked.
func sbom(executable, created string) ([]byte, error) {
	info, err := buildinfo.ReadFile(executable)
	if err != nil {
		return nil, err
	}
	const root = "SPDXRef-grpc-tap"
	d := document{
		SPDXVersion: "SPDX-2.3", DataLicense: "CC0-1.0", SPDXID: "SPDXRef-DOCUMENT", Name: info.Main.Path,
		Namespace:    "https://github.com/grpc-tap/grpc-tap/sbom/" + info.Main.Version + "/" + created,
		CreationInfo: creation{Created: created, Creators: []string{"Tool: grpc-tap-image"}},
	}
	add := func(id, name, version, purl string) {
		d.Packages = append(d.Packages, pkg{
			Name: name, SPDXID: id, Version: version, Location: "NOASSERTION",
			Refs: []ref{{Category: "PACKAGE-MANAGER", Type: "purl", Locator: purl}},
		})
		if id == root {
			d.Relationships = append(d.Relationships, relationship{d.SPDXID, "DESCRIBES", root})
			return
		}
		d.Relationships = append(d.Relationships, relationship{root, "DEPENDS_ON", id})
	}
	add(root, info.Main.Path, info.Main.Version, "pkg:golang/"+info.Main.Path+"@"+info.Main.Version)
	goVersion := strings.TrimPrefix(info.GoVersion, "go")
	add("SPDXRef-std", "std", goVersion, "pkg:golang/std@"+goVersion)
	for i, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		add(fmt.Sprintf("SPDXRef-module-%d", i+1), m.Path, m.Version, "pkg:golang/"+m.Path+"@"+m.Version)
	}
	return json.MarshalIndent(d, "", "  ")
}

func writeSBOM(file, executable, created string) error {
	b, err := sbom(executable, created)
	if err != nil {
		return fmt.Errorf("what %s is made of: %w", executable, err)
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}
