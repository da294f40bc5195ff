package image

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAKernelMustReachTheRootByItself(t *testing.T) {
	const all = "kernel/drivers/nvme/host/nvme-core.ko\nkernel/drivers/nvme/host/nvme.ko\nkernel/fs/ext4/ext4.ko\n"
	for _, test := range []struct {
		name  string
		files map[string]string
		want  string // the version, or
		err   string
	}{
		{
			name:  "a cloud kernel",
			files: map[string]string{"boot/vmlinuz-6.12-cloud": "", "usr/lib/modules/6.12-cloud/modules.builtin": all},
			want:  "6.12-cloud",
		},
		{name: "none", err: "want one in /boot, there are 0"},
		{
			name:  "two",
			files: map[string]string{"boot/vmlinuz-6.12": "", "boot/vmlinuz-6.13": ""},
			err:   "want one in /boot, there are 2",
		},
		{
			name:  "one with NVMe as a module",
			files: map[string]string{"boot/vmlinuz-6.12": "", "usr/lib/modules/6.12/modules.builtin": strings.Replace(all, "kernel/drivers/nvme/host/nvme.ko\n", "", 1)},
			err:   "nvme.ko is not built into it",
		},
		{
			name:  "one without a list",
			files: map[string]string{"boot/vmlinuz-6.12": ""},
			err:   "find what is built into kernel 6.12",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := t.TempDir()
			write(t, root, test.files)
			got, err := findKernel(root)
			if test.err == "" && (err != nil || got != test.want) {
				t.Errorf("found %q, %v, want %q", got, err, test.want)
			}
			if test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Errorf("the error is %v, want it to say %q", err, test.err)
			}
		})
	}
}

func TestBootIsEmptiedOfKernelsOnly(t *testing.T) {
	root := t.TempDir()
	write(t, root, map[string]string{"boot/vmlinuz-6.12": "", "boot/initrd.img-6.12": "", "vmlinuz": "", "boot/config-6.12": ""})
	if err := emptyBoot(root); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"boot/vmlinuz-6.12": false, "boot/initrd.img-6.12": false, "vmlinuz": false, "boot/config-6.12": true} {
		if _, err := os.Stat(filepath.Join(root, name)); (err == nil) != want {
			t.Errorf("%s: %v, want it there: %v", name, err, want)
		}
	}
}
