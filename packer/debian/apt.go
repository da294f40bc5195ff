package debian

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ovenbird-dev/ovenbird/packer/lock"
)

// Names of the archives in a lock.
const (
	Main     = "debian"
	Security = "security"
)

// Archives are the addresses that a lock's names of archives stand for.
type Archives map[string]string

// name is what a lock calls the archive at an address.
func (a Archives) name(address string) string {
	address = strings.TrimRight(address, "/")
	for name, known := range a {
		if strings.TrimRight(known, "/") == address {
			return name
		}
	}
	return address
}

// address is where a package can be fetched.
func (a Archives) address(p lock.Package) string {
	base, ok := a[p.Archive]
	if !ok {
		base = p.Archive
	}
	return strings.TrimRight(base, "/") + "/" + p.Path
}

// How long apt may take; it gives up on a server that is silent by itself, after 30 s.
const (
	updateTimeout  = 10 * time.Minute
	resolveTimeout = 2 * time.Minute
)

// Apt is the machine's apt at work in a directory of its own.
type Apt struct {
	Dir          string   // absolute
	Sources      []string // one-line source entries
	Architecture string
	Archives     Archives
	Environment  []string // of apt
}

// Update fetches the package lists.
func (a Apt) Update(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, updateTimeout)
	defer cancel()
	if err := a.prepare(); err != nil {
		return err
	}
	if _, err := a.run(a.command(ctx, "apt-get", "update", "--error-on=any", "-q")); err != nil {
		return fmt.Errorf("fetch Debian's package lists: %w", err)
	}
	return nil
}

// prepare makes the directory that apt works in, with settings that keep it there.
func (a Apt) prepare() error {
	for _, dir := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(a.Dir, dir), 0o755); err != nil { //nolint:gosec // apt's own modes
			return fmt.Errorf("make a directory for apt: %w", err)
		}
	}
	settings := fmt.Sprintf(`Dir %[1]q;
Dir::Etc::Parts "/dev/null"; Dir::Etc::Main "/dev/null";
Dir::Etc::SourceList %[2]q; Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null"; Dir::Etc::PreferencesParts "/dev/null";
Dir::Etc::Trusted "/dev/null"; Dir::Etc::TrustedParts "/dev/null";
Dir::State %[1]q; Dir::State::Lists "lists/"; Dir::State::Status %[3]q;
Dir::Cache %[4]q;
APT::Architecture %[5]q; APT::Architectures { %[5]q; };
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none"; Acquire::Retries "3";
`, a.Dir, filepath.Join(a.Dir, "sources.list"), filepath.Join(a.Dir, "status"), filepath.Join(a.Dir, "cache"), a.Architecture)
	for name, content := range map[string]string{
		"apt.conf": settings, "sources.list": strings.Join(a.Sources, "\n") + "\n", "status": "",
	} {
		if err := os.WriteFile(filepath.Join(a.Dir, name), []byte(content), 0o644); err != nil { //nolint:gosec // no secret
			return fmt.Errorf("make a directory for apt: %w", err)
		}
	}
	return nil
}

// Resolve lists what a new system that has the named packages consists of: the newest
// version of each, of Debian's essential packages, of apt, and of all that they need.
func (a Apt) Resolve(ctx context.Context, names []string) ([]lock.Package, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	args := append([]string{"install", "--print-uris", "-qq", "-y", "--", "?essential", "apt"}, names...)
	uris, err := a.run(a.command(ctx, "apt-get", args...))
	if err != nil {
		return nil, fmt.Errorf("choose package versions: %w", err)
	}
	wanted, err := printed(uris)
	if err != nil {
		return nil, fmt.Errorf("choose package versions: %w", err)
	}
	found, err := a.Lookup(ctx, a.command, wanted)
	if err != nil {
		return nil, fmt.Errorf("choose package versions: %w", err)
	}
	packages := make([]lock.Package, 0, len(wanted))
	for _, key := range wanted {
		p, ok := found[key]
		if !ok {
			return nil, fmt.Errorf("choose package versions: apt wants %s, which is in none of its lists", key)
		}
		packages = append(packages, p)
	}
	lock.SortPackages(packages)
	return packages, nil
}

// printed reads the output of --print-uris: 'ADDRESS' NAME_VERSION_ARCHITECTURE.deb SIZE HASH.
func printed(uris string) ([]Key, error) {
	var keys []Key
	for line := range strings.Lines(uris) {
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		file, err := url.PathUnescape(strings.TrimSuffix(words[1], ".deb"))
		if err != nil {
			return nil, fmt.Errorf("apt printed %q: %w", line, err)
		}
		parts := strings.Split(file, "_")
		if len(parts) != 3 {
			return nil, fmt.Errorf("apt printed %q, which names no package", line)
		}
		keys = append(keys, Key{parts[0], parts[1], parts[2]})
	}
	return keys, nil
}

// Command makes a command where apt has its lists: on this machine, or in a tree.
type Command func(ctx context.Context, name string, args ...string) *exec.Cmd

// Lookup finds packages in the lists that apt has fetched.
func (a Apt) Lookup(ctx context.Context, command Command, wanted []Key) (map[Key]lock.Package, error) {
	if len(wanted) == 0 {
		return nil, nil
	}
	lists, err := a.run(command(ctx, "apt-get", "indextargets", "--format", "$(FILENAME) $(REPO_URI)", "Identifier: Packages"))
	if err != nil {
		return nil, fmt.Errorf("find apt's package lists: %w", err)
	}
	found := map[Key]lock.Package{}
	for line := range strings.Lines(lists) {
		file, address, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok {
			continue
		}
		if err := a.search(command(ctx, helper, "cat-file", file), a.Archives.name(address), wanted, found); err != nil {
			return nil, fmt.Errorf("read the package list %s: %w", file, err)
		}
	}
	return found, nil
}

// search adds those of wanted that the package list which cmd prints has.
func (a Apt) search(cmd *exec.Cmd, archive string, wanted []Key, found map[Key]lock.Package) error {
	names := map[string]bool{}
	for _, key := range wanted {
		names[key.Name] = true
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return err
	}
	err = func() error {
		for stanza, err := range Stanzas(output) {
			if err != nil {
				return err
			}
			if !names[stanza["Package"]] {
				continue
			}
			p, err := stanza.pkg()
			if err != nil {
				return err
			}
			p.Archive = archive
			if _, known := found[KeyOf(p)]; !known && slices.Contains(wanted, KeyOf(p)) {
				found[KeyOf(p)] = p
			}
		}
		return nil
	}()
	_ = output.Close() // else the program waits for ever for a reader that failed
	if waitErr := cmd.Wait(); err == nil && waitErr != nil {
		err = fmt.Errorf("%w: %s", waitErr, strings.TrimSpace(said.String()))
	}
	return err
}

func (a Apt) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(slices.Clone(a.Environment), "APT_CONFIG="+filepath.Join(a.Dir, "apt.conf"))
	cmd.Dir = "/"
	return cmd
}

// run returns what the command prints; a failure carries what it complained of.
func (a Apt) run(cmd *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		said := strings.TrimSpace(stderr.String())
		if len(said) > 4<<10 {
			said = said[len(said)-4<<10:]
		}
		return "", fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, said)
	}
	return stdout.String(), nil
}
