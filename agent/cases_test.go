package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ovenbird-dev/ovenbird/agent/image"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs"
	"github.com/ovenbird-dev/ovenbird/agent/rootfs/rootfstest"
)

// TestInitWithARootRendersEveryCase runs init --root on each folder of testdata/cases:
//
//	input          the user-data
//	instance.json  what --metadata takes
//	image.json     the image's release, if not the example's
//	drop-ins/      the image's own NodeConfigs, if any
//	image/         more files that the image has, if any, all of them executable
//	arguments      more arguments, one a line, if any
//	expected/      the files of the node; besides them warnings, or error alone
func TestInitWithARootRendersEveryCase(t *testing.T) {
	cases, err := os.ReadDir("testdata/cases")
	if err != nil || len(cases) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, entry := range cases {
		dir := filepath.Join("testdata/cases", entry.Name())
		t.Run(entry.Name(), func(t *testing.T) {
			root := t.TempDir()
			brought := prepare(t, dir, rootfs.Root(root))
			args := []string{"--root", root, "--user-data", filepath.Join(dir, "input"), "--metadata", filepath.Join(dir, "instance.json")}
			args = append(args, strings.Fields(string(optional(t, filepath.Join(dir, "arguments"))))...)
			stdout, stderr, err := run(initCommand(), args...)
			files := slices.DeleteFunc(tree(t, root), func(file rootfs.File) bool { return slices.Contains(brought, file.Path) })
			if listed := strings.Count(stdout, "\n"); listed != len(files) {
				t.Errorf("%d files were listed and %d written", listed, len(files))
			}
			if err != nil {
				if len(files) > 0 {
					t.Errorf("it failed, but wrote %d files", len(files))
				}
				files = append(files, rootfs.File{Path: "/error", Data: []byte(err.Error() + "\n")})
			}
			if warnings := warningsIn(stderr); warnings != "" {
				files = append(files, rootfs.File{Path: "/warnings", Data: []byte(warnings)})
			}
			rootfstest.Compare(t, filepath.Join(dir, "expected"), files)
		})
	}
}

// prepare makes root what a case's image has, and returns the paths of that.
func prepare(t *testing.T, dir string, root rootfs.Root) []string {
	t.Helper()
	var brought []rootfs.File
	if release := optional(t, filepath.Join(dir, "image.json")); release != nil {
		brought = append(brought, rootfs.File{Path: image.Path, Data: release})
	}
	dropIns, err := filepath.Glob(filepath.Join(dir, "drop-ins", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range dropIns {
		brought = append(brought, rootfs.File{Path: "/etc/ovenbird/nodeconfig.d/" + filepath.Base(path), Data: optional(t, path)})
	}
	if _, err := os.Stat(filepath.Join(dir, "image")); err == nil {
		for _, file := range tree(t, filepath.Join(dir, "image")) {
			file.Mode = 0o755
			brought = append(brought, file)
		}
	}
	if err := root.Apply(brought...); err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, file := range brought {
		paths = append(paths, file.Path)
	}
	return paths
}

// optional returns the content of a file, nil when there is none.
func optional(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return data
}

func warningsIn(stderr string) string {
	var warnings strings.Builder
	for line := range strings.Lines(stderr) {
		if strings.Contains(line, ": warning: ") {
			warnings.WriteString(line)
		}
	}
	return warnings.String()
}

func tree(t *testing.T, root string) []rootfs.File {
	t.Helper()
	var files []rootfs.File
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		files = append(files, rootfs.File{Path: strings.TrimPrefix(path, root), Data: data})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
