package image

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestATemplateIsChecked(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		fields map[string]any
		want   string // in the error; empty: none
	}{
		{name: "the least that is needed", fields: map[string]any{"output_directory": "out"}},
		{name: "everything", fields: map[string]any{
			"output_directory": "out", "disk_size": "8GiB", "root_filesystem": "ext4", "mirror": "https://mirror.example/debian",
			"security_mirror": "http://mirror.example/security", "extra_packages": []string{"curl", "g++:amd64"},
			"kernel_arguments": []string{"mitigations=auto"}, "cache_directory": "cache",
		}},
		{name: "no output directory", fields: map[string]any{}, want: "output_directory: must be set"},
		{name: "an output directory that is a file", fields: map[string]any{"output_directory": file}, want: "output_directory: " + file + " is not a directory"},
		{name: "another root file system", fields: map[string]any{"root_filesystem": "btrfs"}, want: `root_filesystem: "btrfs" is neither verity nor ext4`},
		{name: "a size without a unit", fields: map[string]any{"disk_size": "6000"}, want: `disk_size: "6000" is not a size`},
		{name: "a size in another unit", fields: map[string]any{"disk_size": "6GB"}, want: `disk_size: "6GB" is not a size`},
		{name: "a negative size", fields: map[string]any{"disk_size": "-6GiB"}, want: "disk_size"},
		{name: "a size that holds nothing", fields: map[string]any{"disk_size": "512MiB"}, want: "disk_size: 512MiB is out of range"},
		{name: "a size that EBS has not", fields: map[string]any{"disk_size": "17000GiB"}, want: "disk_size: 17000GiB is out of range"},
		{name: "a mirror that is no address", fields: map[string]any{"mirror": "mirror.example", "security_mirror": "http://mirror.example/security"}, want: "mirror: "},
		{name: "a mirror without its security mirror", fields: map[string]any{"mirror": "http://mirror.example/debian"}, want: "mirror, security_mirror: must be set together"},
		{name: "a security mirror of another scheme", fields: map[string]any{"mirror": "http://mirror.example/debian", "security_mirror": "file:///srv"}, want: "security_mirror: "},
		{name: "a package that is an option", fields: map[string]any{"extra_packages": []string{"--force"}}, want: `extra_packages: "--force"`},
		{name: "two packages in one", fields: map[string]any{"extra_packages": []string{"curl,wget"}}, want: "extra_packages: "},
		{name: "an empty kernel argument", fields: map[string]any{"kernel_arguments": []string{""}}, want: "kernel_arguments: "},
		{name: "a Secure Boot key without its certificate", fields: map[string]any{"secure_boot_key": file}, want: "secure_boot_key, secure_boot_certificate: must be set together"},
		{name: "a Secure Boot key that is none", fields: map[string]any{"secure_boot_key": file, "secure_boot_certificate": file}, want: "secure_boot_key, secure_boot_certificate: "},
		{name: "a signing key that is none", fields: map[string]any{"signing_key": file}, want: "signing_key: read the signing key: others can read " + file},
		{name: "an exception", fields: except("no-ssh-server", "people debug with it")},
		{name: "an exception without a reason", fields: except("no-ssh-server", " "), want: "except: no-ssh-server: the reason is missing"},
		{name: "an exception from nothing", fields: except("no-such-control", "none"), want: `except: there is no control "no-such-control"`},
		{name: "an exception from what does not apply anyhow", fields: except("cis-debian-audit", "none"), want: `except: there is no control "cis-debian-audit"`},
		{name: "the same exception twice", fields: except("umask", "a", "umask", "b"), want: "except: umask is there twice"},
		{name: "an unknown field", fields: map[string]any{"disk_sise": "6GiB"}, want: "disk_sise"},
	} {
		t.Run(test.name, func(t *testing.T) {
			fields := map[string]any{"output_directory": "out"}
			if _, own := test.fields["output_directory"]; own || len(test.fields) == 0 {
				fields = map[string]any{}
			}
			for name, value := range test.fields {
				fields[name] = value
			}
			var c Config
			err := c.prepare(fields)
			switch {
			case test.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case test.want != "" && err == nil:
				t.Error("accepted")
			case test.want != "" && !strings.Contains(err.Error(), test.want):
				t.Errorf("the error is %q, want it to say %q", err, test.want)
			case test.want != "" && strings.Contains(strings.TrimSpace(err.Error()), "\n") && test.name != "an unknown field":
				t.Errorf("the error has more than one line: %q", err)
			}
		})
	}
}

// except is a template with exceptions, given as controls and reasons in turn.
func except(pairs ...string) map[string]any {
	var blocks []map[string]any
	for pair := range slices.Chunk(pairs, 2) {
		blocks = append(blocks, map[string]any{"control": pair[0], "reason": pair[1]})
	}
	return map[string]any{"except": blocks}
}

func TestDefaultsAreFilledIn(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", "/cache")
	t.Setenv("OVENBIRD_CACHE", "")
	var c Config
	if err := c.prepare(map[string]any{"output_directory": "out"}); err != nil {
		t.Fatal(err)
	}
	if c.diskBytes != 6*gib || c.RootFilesystem != rootVerity || c.archives()["debian"] != debianArchive || c.CacheDirectory != "/cache/ovenbird" {
		t.Errorf("defaults are %+v", c)
	}
	if !filepath.IsAbs(c.OutputDirectory) {
		t.Errorf("the output directory stays relative: %s", c.OutputDirectory)
	}
}

func TestSecurityUpdatesAreInstalled(t *testing.T) {
	c := Config{Mirror: "http://m/debian", SecurityMirror: "http://s/security"}
	got := strings.Join(sources(c.archives()), "\n")
	const line = "deb [signed-by=" + keyring + "] "
	want := line + "http://m/debian trixie main\n" + line + "http://m/debian trixie-updates main\n" + line + "http://s/security trixie-security main"
	if got != want {
		t.Errorf("sources are\n%s\nwant\n%s", got, want)
	}
}
