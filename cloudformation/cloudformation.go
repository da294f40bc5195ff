// Package cloudformation holds the templates for programs that use them without their files.
package cloudformation

import _ "embed"

// Workers is the template of a cluster's worker nodes.
//
//go:embed workers.yaml
var Workers string
