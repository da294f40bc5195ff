// Package component says what a control plane is made of: for each program its version,
// command line, files, ports, probe and data directory, computed from a typed description
// of the cluster.
//
// Descriptions are plain data and computing one touches nothing, so that any runtime can
// render them: package supervise runs them as processes beside the service, `ovenbird
// render` prints them. The same input always gives the same description; a runtime restarts
// a program exactly when its description changes.
package component

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"time"
)

// Component describes one program of a control plane.
type Component struct {
	Name    string   `json:"name"`
	Version string   `json:"version"`
	Path    string   `json:"path"` // of the program
	Args    []string `json:"args"`
	// Files are written before the program starts. Keys and certificates are not among
	// them: programs read leaves again by themselves when they are renewed.
	Files     []File   `json:"files,omitempty"`
	Ports     []Port   `json:"ports"`
	Probe     Probe    `json:"probe"`
	DataDir   string   `json:"dataDir,omitempty"`
	DependsOn []string `json:"dependsOn,omitempty"` // names that must be ready before this one starts
	// Trust identifies the authorities that the program knows. It reads them once, when it
	// starts, so that a renewed one, every eight years, is a changed description.
	Trust string `json:"trust,omitempty"`
}

// File is a configuration file of a component.
type File struct {
	Path    string      `json:"path"`
	Mode    fs.FileMode `json:"mode"`
	Content []byte      `json:"-"` // may hold secrets
}

// Port is where a component listens.
type Port struct {
	Name    string `json:"name"`
	Address string `json:"address"` // host:port
}

// Probe asks a component over HTTPS how it is; status 200 is well. The asker proves who it
// is and checks the answer's certificate, so that no other program can answer instead.
type Probe struct {
	Ready       string `json:"ready"`       // URL: does it serve?
	Live        string `json:"live"`        // URL: would a restart help?
	Authority   string `json:"authority"`   // file: who signed the component's certificate
	Certificate string `json:"certificate"` // file: the asker's certificate and key
	// StartTimeout is how long the first good answer may take.
	StartTimeout time.Duration `json:"startTimeout"`
}

// Digest identifies everything that decides how the component runs.
func (c Component) Digest() string {
	hash := sha256.New()
	// A struct of strings, numbers and slices always encodes.
	data, err := json.Marshal(c)
	if err != nil {
		panic(fmt.Sprintf("encode description of %s: %v", c.Name, err))
	}
	hash.Write(data)
	for _, file := range c.Files {
		content := sha256.Sum256(file.Content)
		hash.Write(content[:])
	}
	return hex.EncodeToString(hash.Sum(nil))
}
