package ami

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/packer-plugin-sdk/packer"

	"github.com/ovenbird-dev/ovenbird/packer/image"
)

func TestMistakesInTheTemplateAreNamed(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(key, []byte("-----BEGIN EC PRIVATE KEY-----\nAA==\n-----END EC PRIVATE KEY-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	arn := "arn:aws:kms:us-east-1:111122223333:key/x"
	for want, config := range map[string]map[string]any{
		"public, public_confirmed":                      {"public": true},
		"an encrypted image cannot be public":           {"public": true, "public_confirmed": true, "encrypt_boot": true},
		"the account's own key cannot be shared":        {"ami_users": []string{"123456789012"}, "encrypt_boot": true},
		"not an account's id":                           {"ami_users": []string{"1234"}},
		"ami_org_arns":                                  {"ami_org_arns": []string{"o-123"}},
		"ami_ou_arns":                                   {"ami_ou_arns": []string{"ou-123"}},
		"need encrypt_boot":                             {"kms_key_id": arn},
		"not an ARN":                                    {"kms_key_id": "alias/key", "encrypt_boot": true},
		"no key for us-west-2":                          {"kms_key_id": arn, "encrypt_boot": true, "ami_regions": []string{"us-west-2"}},
		"not among ami_regions":                         {"encrypt_boot": true, "region_kms_key_ids": map[string]string{"us-west-2": arn}},
		"not the name of a region":                      {"ami_regions": []string{"Frankfurt"}},
		"deprecate_at":                                  {"deprecate_at": "soon"},
		"is not in the future":                          {"deprecate_at": "2020-01-01T00:00:00Z"},
		"is not a name for an image":                    {"ami_name": "a"},
		"names a variable that is not there":            {"ami_name": "node-{{.Nothing}}"},
		"ami_description":                               {"ami_description": "{{"},
		"are taken":                                     {"tags": map[string]string{"ovenbird.dev/build": "x"}},
		"parent_snapshot":                               {"parent_snapshot": "ami-1"},
		"max_concurrency":                               {"max_concurrency": 1000},
		"volume_size":                                   {"volume_size": -1},
		"secure_boot_certificate: must be set":          {"secure_boot_platform_certificate": key},
		"the key stays where it signs":                  {"secure_boot_certificate": key},
		"secure_boot_certificate: open /nowhere":        {"secure_boot_certificate": "/nowhere"},
		"unknown configuration key: '\"instance_type\"": {"instance_type": "m5.large"},
	} {
		p := new(PostProcessor)
		if err := p.Configure(config); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v gives %v, want %q in it", config, err, want)
		}
	}
	if err := new(PostProcessor).Configure(map[string]any{}); err != nil {
		t.Errorf("an empty block gives %v", err)
	}
	if err := new(PostProcessor).Configure(map[string]any{"public": true, "public_confirmed": true, "deprecate_at": "2999-01-01T00:00:00Z"}); err != nil {
		t.Errorf("a public image, asked for twice, gives %v", err)
	}
}

func TestTheVariablesOfTheTemplateAreFilledIn(t *testing.T) {
	p := new(PostProcessor)
	if err := p.Configure(map[string]any{
		"ami_name": "node-{{.KubernetesVersion}}-{{.Own}}", "tags": map[string]string{"at-{{.Channel}}": "{{.Kernel}}"}, "ssm_parameter": "/{{.Channel}}/{{.Content}}",
		"channel": "beta",
	}); err == nil {
		t.Error("a variable that only some builder has passes without the builder")
	}
	p = new(PostProcessor)
	if err := p.Configure(map[string]any{"tags": map[string]string{"at-{{.Channel}}": "{{.Kernel}}"}, "ssm_parameter": "/{{.Channel}}/{{.Content}}"}); err != nil {
		t.Fatal(err)
	}
	w, err := p.config.render(map[string]any{"KubernetesVersion": "1.37.2", "Kernel": "6.12", "Content": "abc"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(w.name, "ovenbird-1.37.2-") || !maps.Equal(w.tags, map[string]string{"at-stable": "6.12"}) || w.parameter != "/stable/abc" {
		t.Errorf("filled in: %+v", w)
	}
	if w, err = p.config.render(map[string]any{"Content": "abc"}, time.Now()); err != nil || strings.Contains(w.name, "--") {
		t.Errorf("the name of an image without Kubernetes is %q, %v", w.name, err)
	}
}

func TestTheDiskIsFoundAmongTheFilesOfAnyBuilder(t *testing.T) {
	for name, test := range map[string]struct {
		builder, disk string
		files         []string
		want, err     string
	}{
		"our own":               {image.BuilderID, "", []string{"/o/disk.raw", "/o/sbom.raw"}, "/o/disk.raw", ""},
		"one file":              {"qemu", "", []string{"/o/packer-qemu"}, "/o/packer-qemu", ""},
		"one that is a disk":    {"qemu", "", []string{"/o/efivars.fd", "/o/d.img"}, "/o/d.img", ""},
		"two disks":             {"qemu", "", []string{"/o/a.raw", "/o/b.raw"}, "", "disk: must be set"},
		"two disks, one named":  {"qemu", "b.raw", []string{"/o/a.raw", "/o/b.raw"}, "/o/b.raw", ""},
		"another one named":     {"qemu", "c.raw", []string{"/o/a.raw"}, "", "has no file c.raw"},
		"an artifact elsewhere": {"mitchellh.amazonebs", "", []string{}, "", "has no files"},
	} {
		got, err := diskPath(&packer.MockArtifact{BuilderIdValue: test.builder, FilesValue: test.files}, test.disk)
		if got != test.want || (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestWhatCannotBootIsNotUploaded(t *testing.T) {
	good := filepath.Join(t.TempDir(), "good.raw")
	writeDisk(t, good, 8, 0)
	content, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	change := func(at int, with string) []byte {
		changed := append([]byte{}, content...)
		copy(changed[at:], with)
		return changed
	}
	for want, disk := range map[string][]byte{
		"":                            content,
		"shorter than a partition":    content[:700],
		"not whole sectors":           append(append([]byte{}, content...), 1),
		"no GUID partition table":     change(512, "not this"),
		"checksum of its GUID":        change(512+50, "x"),
		"is the file complete":        content[:len(content)-512*100],
		"format qcow2":                change(0, "QFI\xfb"),
		"format VMDK; convert it to ": change(0, "KDMV"),
	} {
		path := filepath.Join(t.TempDir(), "disk")
		if err := os.WriteFile(path, disk, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := openDisk(path)
		if err == nil {
			f.Close()
		}
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want %q in it", err, want)
		}
	}
}

func TestProgressTellsRateAndTimeLeft(t *testing.T) {
	m := newMeter(nil, "Uploading", 1000<<20)
	m.done.Store(250 << 20)
	if got, want := m.line(5*time.Second), "Uploading: 250 MiB of 1000 MiB, 50 MiB/s, 15s left"; got != want {
		t.Errorf("it says %q, want %q", got, want)
	}
	ui := newListener(t.Output())
	said := make(chan struct{})
	ui.hear = func(line string) {
		if strings.Contains(line, "left") {
			select {
			case <-said:
			default:
				close(said)
			}
		}
	}
	m = newMeter(ui, "Uploading", 10)
	if err := m.during(time.Millisecond, func() error { <-said; return nil }); err != nil {
		t.Fatal(err)
	}
}
