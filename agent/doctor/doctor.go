// Package doctor examines a node, in the order in which a join depends on things, and says
// what to do about the first that is wrong. It changes nothing, and shows nobody who it is:
// no credential, key or user-data is sent or printed.
package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ovenbird-dev/ovenbird/agent/boot"
	"github.com/ovenbird-dev/ovenbird/agent/discover"
	"github.com/ovenbird-dev/ovenbird/agent/imds"
	"github.com/ovenbird-dev/ovenbird/agent/nodeconfig"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
)

// deadline is how long one check may take.
const deadline = 5 * time.Second

// Machine is what a node is examined by.
type Machine struct {
	Root     rootfs.Root
	Metadata Metadata
	Units    Units
	Network  Network
	Environ  []string // "NAME=value", as the agent has it: it may name a proxy
	Now      func() time.Time
	Space    func(path string) (Space, error) // of the file system that holds path
}

// Metadata is the instance metadata service.
type Metadata interface {
	Instance(ctx context.Context) (imds.Instance, error)
	UserData(ctx context.Context) ([]byte, error)
}

// Units is the service manager; its states are systemd's ActiveState.
type Units interface {
	ActiveState(ctx context.Context, unit string) (string, error)
}

// Network reaches others, through local sockets too.
type Network interface {
	LookupHost(ctx context.Context, host string) ([]string, error)
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// Space is how full a file system is. A file system that makes inodes as it needs them has
// none of them in total.
type Space struct{ FreeBytes, Bytes, FreeInodes, Inodes uint64 }

// Verdict is what a check ends with.
type Verdict string

// The verdicts.
const (
	OK      Verdict = "OK"
	Failed  Verdict = "FAILED"
	Skipped Verdict = "SKIPPED" // what it needs was not found by the checks before it
)

// Finding is the result of one check.
type Finding struct {
	Check   string  `json:"check"`
	Verdict Verdict `json:"verdict"`
	Found   string  `json:"found"`
	Advice  string  `json:"advice,omitempty"` // what to do about a failure
}

// Report is the result of all checks, in their order.
type Report struct {
	Healthy  bool      `json:"healthy"`
	Findings []Finding `json:"findings"`
}

// patient is the machine and what the checks before have found out about it. Nil means
// that they have not.
type patient struct {
	Machine
	userData *nodeconfig.UserData
	cluster  *discover.Cluster
	instance *imds.Instance
	reached  bool // the API endpoint takes connections
}

// A check returns what it found, or a *failure, or a skipped.
type check struct {
	name string
	run  func(ctx context.Context, p *patient) (string, error)
}

// checks are in the order in which a join depends on them.
var checks = []check{
	{"identity", checkUserData},
	{"IMDS", checkMetadata},
	{"DNS", checkName},
	{"TCP", checkConnection},
	{"TLS", checkTLS},
	{"certificate", checkCertificate},
	{"clock", checkClock},
	{"containerd", checkContainerd},
	{"kubelet", checkKubelet},
	{"CNI", checkCNI},
	{"disk", checkDisk},
	{"cgroup v2", checkCgroup},
}

// failure is something wrong and what to do about it.
type failure struct {
	err    error
	advice string
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func fail(advice, format string, args ...any) error {
	return &failure{fmt.Errorf(format, args...), advice}
}

// skipped says why a check was not made.
type skipped string

func (s skipped) Error() string { return string(s) }

const (
	errNoCluster  = skipped("which cluster this is, is not known: see identity")
	errNoInstance = skipped("which instance this is, is not known: see IMDS")
	errNotReached = skipped("the endpoint was not reached: see TCP")
)

// FirstFailure makes checks until one fails, which is the one to begin with. As a check
// that gets no answer fails, that takes hardly longer than one deadline.
func FirstFailure(ctx context.Context, machine Machine) (Finding, bool) {
	p := &patient{Machine: machine}
	for _, check := range checks {
		if finding := examine(ctx, p, check); finding.Verdict == Failed {
			return finding, true
		}
	}
	return Finding{}, false
}

// Examine makes every check, each with a deadline of its own.
func Examine(ctx context.Context, machine Machine) Report {
	p := &patient{Machine: machine}
	report := Report{Healthy: true}
	for _, check := range checks {
		finding := examine(ctx, p, check)
		report.Healthy = report.Healthy && finding.Verdict != Failed
		report.Findings = append(report.Findings, finding)
	}
	return report
}

func examine(ctx context.Context, p *patient, check check) Finding {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	found, err := check.run(ctx, p)
	finding := Finding{Check: check.name, Verdict: OK, Found: oneLine(found)}
	var skip skipped
	var wrong *failure
	switch {
	case err == nil:
	case errors.As(err, &skip):
		finding.Verdict, finding.Found = Skipped, skip.Error()
	default:
		finding.Verdict, finding.Found = Failed, oneLine(err.Error())
		if errors.As(err, &wrong) {
			finding.Advice = wrong.advice
		}
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			finding.Found = fmt.Sprintf("no answer in %s: %s", deadline, finding.Found)
		}
	}
	return finding
}

// FirstFailure returns the failure to begin with; what follows it may follow from it.
func (r Report) FirstFailure() (Finding, bool) {
	for _, finding := range r.Findings {
		if finding.Verdict == Failed {
			return finding, true
		}
	}
	return Finding{}, false
}

// Print writes the report as a table for people.
func (r Report) Print(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "CHECK\tRESULT\tFOUND")
	for _, finding := range r.Findings {
		fmt.Fprintf(table, "%s\t%s\t%s\n", finding.Check, finding.Verdict, cmp.Or(finding.Found, "-"))
	}
	return table.Flush()
}

// proxy decides as the agent and kubelet do.
func (p *patient) proxy() boot.Proxy {
	return boot.ProxyOf(p.Environ, p.userData.Spec.Instance.Environment)
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
