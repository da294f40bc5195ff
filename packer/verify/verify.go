// Package verify tells whether a disk is what it is said to be. It recomputes everything:
// the signature and the hashes of the provenance beside the disk, the partition table, the
// root hash that the kernel boots with, the hash of each block of the root file system,
// and the programs and documents in that. It needs no root, mounts nothing, writes nothing
// and believes nothing that it has not computed.
package verify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ovenbird-dev/ovenbird/packer/attest"
	"github.com/ovenbird-dev/ovenbird/packer/lock"
)

// Outcome is that of a check.
type Outcome string

// The outcomes.
const (
	OK      Outcome = "ok"
	Failed  Outcome = "failed"
	Skipped Outcome = "skipped" // it could not be made; the detail says why
)

// Check is something that was recomputed.
type Check struct {
	Name    string  `json:"name"`
	Outcome Outcome `json:"outcome"`
	Detail  string  `json:"detail"`
	Remedy  string  `json:"remedy,omitempty"` // what to do about a failure
}

// Report is what is known about a disk now.
type Report struct {
	Disk   string  `json:"disk"`
	OK     bool    `json:"ok"`
	Checks []Check `json:"checks"`
}

// Options say what to verify.
type Options struct {
	Disk string // a file; what describes it lies beside it
	Key  string // the file of a public key; empty: signatures are not checked
}

// skip is why a check cannot be made.
type skip string

func (s skip) Error() string { return string(s) }

// fault is a failed check and what to do about it.
type fault struct{ found, remedy string }

func (f fault) Error() string { return f.found }

// verification is what the checks of one disk share.
type verification struct {
	Options
	disk *os.File
	size int64

	statement attest.Statement
	documents map[string][]byte // beside the disk, by name; those that the provenance vouches for
	lock      *lock.Lock        // beside the disk; nil when there is none that can be trusted
	listed    map[string]string // the programs that the SBOM lists, and their SHA-256
	layout    *diskLayout       // nil when there is none
	kernel    *kernel           // nil when there is none
	root      fs.FS             // nil when it cannot be read
	hashed    map[string]string // SHA-256 of files in it
}

// Run verifies a disk; tell hears of each check as it is made. An error means that there is
// no such disk, or that the context has ended.
func Run(ctx context.Context, o Options, tell func(Check)) (Report, error) {
	disk, err := os.Open(o.Disk)
	if err != nil {
		return Report{}, fmt.Errorf("open the disk: %w", err)
	}
	defer disk.Close()
	info, err := disk.Stat()
	if err != nil {
		return Report{}, fmt.Errorf("open the disk: %w", err)
	}
	if !info.Mode().IsRegular() {
		return Report{}, fmt.Errorf("open the disk: %s is not a file", o.Disk)
	}
	v := &verification{Options: o, disk: disk, size: info.Size(), documents: map[string][]byte{}, hashed: map[string]string{}}
	report := Report{Disk: o.Disk, OK: true}
	for _, c := range []struct {
		name string
		make func(context.Context) (string, error)
	}{
		{"provenance", v.checkProvenance},
		{"signature", v.checkSignature},
		{"lock", v.checkLock},
		{"SBOM", v.checkSBOM},
		{"partitions", v.checkPartitions},
		{"kernel image", v.checkKernel},
		{"root file system", v.checkRoot},
		{"documents in the image", v.checkDocuments},
		{"programs in the image", v.checkPrograms},
		{"disk", v.checkDisk}, // last, as it takes longest
	} {
		detail, err := c.make(ctx)
		if ctx.Err() != nil {
			return report, fmt.Errorf("verify %s: %w", o.Disk, context.Cause(ctx))
		}
		check := Check{Name: c.name, Outcome: OK, Detail: detail}
		var skipped skip
		var failure fault
		switch {
		case errors.As(err, &skipped):
			check.Outcome, check.Detail = Skipped, skipped.Error()
		case errors.As(err, &failure):
			check.Outcome, check.Detail, check.Remedy = Failed, failure.found, failure.remedy
		case err != nil:
			check.Outcome, check.Detail = Failed, err.Error()
		}
		report.OK = report.OK && check.Outcome != Failed
		report.Checks = append(report.Checks, check)
		tell(check)
	}
	return report, nil
}

// beside is a file beside the disk.
func (v *verification) beside(name string) string { return filepath.Join(filepath.Dir(v.Disk), name) }
