package release

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// readPins reads what the folders of components/ pin.
func readPins(t *testing.T) []Component {
	t.Helper()
	files, err := filepath.Glob("../../components/*/go.mod")
	if err != nil || len(files) == 0 {
		t.Fatalf("find the components: %d, %v", len(files), err)
	}
	read := func(name string) []byte {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return content
	}
	var pins []Component
	for _, file := range files {
		dir := filepath.Dir(file)
		c := Component{Name: regexp.MustCompile(`-[0-9].*$`).ReplaceAllString(filepath.Base(dir), "")}
		c.Module = string(regexp.MustCompile(`(?m)^module=(.*)$`).FindSubmatch(read(filepath.Join(dir, "build.conf")))[1])
		module, err := modfile.Parse(file, read(file), nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, require := range module.Require {
			if require.Mod.Path == c.Module {
				c.Version = strings.TrimPrefix(require.Mod.Version, "v")
			}
		}
		for line := range strings.Lines(string(read(filepath.Join(dir, "go.sum")))) {
			if rest, ok := strings.CutPrefix(line, c.Module+" v"+c.Version+" "); ok {
				c.Hash = strings.TrimSpace(rest)
			}
		}
		pins = append(pins, c)
	}
	return pins
}

func TestThePluginKnowsWhatIsPinned(t *testing.T) {
	want, err := json.MarshalIndent(readPins(t), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	if *update {
		if err := os.WriteFile("pins.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(pinned, want) {
		t.Errorf("pins.json is not what components/ pins (go test ./packer/release -update rewrites it); want\n%s", want)
	}
	for _, c := range readPins(t) {
		if c.Version == "" || !strings.HasPrefix(c.Hash, "h1:") {
			t.Errorf("a component without a version or a hash: %+v", c)
		}
	}
}

// newest has two Kubernetes minors, the newer with two patches.
var newest = []Release{
	{Kubernetes: Component{Version: "1.37.2"}}, {Kubernetes: Component{Version: "1.37.1"}}, {Kubernetes: Component{Version: "1.36.9"}},
}

func TestAReleaseIsFoundByVersionOrChannel(t *testing.T) {
	for _, test := range []struct{ version, channel, want, err string }{
		{"", "", "1.37.2", ""},
		{"", "stable", "1.37.2", ""},
		{"", "1.37", "1.37.2", ""},
		{"", "1.36", "1.36.9", ""},
		{"1.37.1", "", "1.37.1", ""},
		{"1.37", "", "", `kubernetes_version: this plugin pins no Kubernetes "1.37"; there is version 1.37.2, 1.37.1, 1.36.9, channel stable, 1.37, 1.36`},
		{"1.2.3", "", "", `kubernetes_version: this plugin pins no Kubernetes "1.2.3"; there is version 1.37.2`},
		{"", "edge", "", `channel: there is no channel "edge"; there is version 1.37.2, 1.37.1, 1.36.9, channel stable, 1.37, 1.36`},
		{"1.37.2", "stable", "", "set one of the two"},
	} {
		got, err := find(newest, test.version, test.channel)
		if got.Kubernetes.Version != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("version %q, channel %q: %s, %v", test.version, test.channel, got.Kubernetes.Version, err)
		}
	}
}

func TestTheDataSourceAnswersVersionsAndHashes(t *testing.T) {
	releases, err := Releases()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, c := range releases[0].Components {
		program := filepath.Join(dir, c.Name, c.Version, "program")
		if err := os.MkdirAll(filepath.Dir(program), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(program, []byte("x"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	d := new(Datasource)
	if err := d.Configure(map[string]any{"components_dir": dir}); err != nil {
		t.Fatal(err)
	}
	value, err := d.Execute()
	if err != nil {
		t.Fatal(err)
	}
	got := value.AsValueMap()
	if v := got["kubernetes_version"].AsString(); v != releases[0].Kubernetes.Version {
		t.Errorf("kubernetes_version is %q", v)
	}
	if n := len(got["components"].AsValueMap()); n != 5 {
		t.Errorf("there are %d components", n)
	}
	if h := got["hashes"].AsValueMap()["runc"].AsString(); !strings.HasPrefix(h, "h1:") {
		t.Errorf("the hash of runc is %q", h)
	}
	const digestOfX = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
	if p := got["programs"].AsValueMap()["runc/program"].AsString(); p != digestOfX {
		t.Errorf("the digest of the program is %q", p)
	}
	if err := os.RemoveAll(filepath.Join(dir, "runc")); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Execute(); err == nil || !strings.Contains(err.Error(), "components_dir: runc") {
		t.Errorf("without runc: %v", err)
	}
}
