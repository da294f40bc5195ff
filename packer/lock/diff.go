package lock

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Diff says line by line what is different in b, in words: packages that were added,
// removed, or are of another version, components, images, options. Equal locks give none.
func Diff(a, b Lock) []string {
	lines := slices.Concat(
		diffValues("", []value{
			{"suite", a.Suite, b.Suite},
			{"architecture", a.Architecture, b.Architecture},
			{"epoch", a.Epoch.UTC().Format(time.RFC3339), b.Epoch.UTC().Format(time.RFC3339)},
			{"plugin", a.Plugin.Version + " " + a.Plugin.Commit, b.Plugin.Version + " " + b.Plugin.Commit},
		}),
		diffValues("options: ", []value{
			{"disk_size", fmt.Sprint(a.Options.DiskSize), fmt.Sprint(b.Options.DiskSize)},
			{"root_filesystem", a.Options.RootFilesystem, b.Options.RootFilesystem},
			{"kernel_arguments", words(a.Options.KernelArguments), words(b.Options.KernelArguments)},
			{"extra_packages", words(a.Options.ExtraPackages), words(b.Options.ExtraPackages)},
			{"secure_boot_certificate", a.Options.SecureBootSHA256, b.Options.SecureBootSHA256},
		}),
		diffPackages("machine", a.Machine, b.Machine),
		diffPackages("provisioned", a.Provisioned, b.Provisioned),
		diffSets("removed", a.Removed, b.Removed),
		diffPackages("tools", a.Tools, b.Tools),
		diffComponents(a.Components, b.Components),
		diffSets("images", imageNames(a.Images), imageNames(b.Images)),
	)
	return lines
}

type value struct{ name, a, b string }

func diffValues(prefix string, values []value) []string {
	var lines []string
	for _, v := range values {
		if v.a != v.b {
			lines = append(lines, fmt.Sprintf("  %s%s: %s -> %s", prefix, v.name, cmp.Or(v.a, "none"), cmp.Or(v.b, "none")))
		}
	}
	return lines
}

func words(list []string) string { return strings.Join(list, " ") }

// diffPackages compares packages by name and architecture.
func diffPackages(list string, a, b []Package) []string {
	key := func(p Package) string { return p.Name + ":" + p.Architecture }
	before, after := index(a, key), index(b, key)
	var lines []string
	for _, name := range union(before, after) {
		old, was := before[name]
		new, is := after[name]
		switch {
		case !was:
			lines = append(lines, fmt.Sprintf("  %s: + %s %s", list, new.Name, new.Version))
		case !is:
			lines = append(lines, fmt.Sprintf("  %s: - %s %s", list, old.Name, old.Version))
		case old.Version != new.Version:
			lines = append(lines, fmt.Sprintf("  %s: %s %s -> %s", list, old.Name, old.Version, new.Version))
		case old != new:
			lines = append(lines, fmt.Sprintf("  %s: %s %s is another .deb: %s -> %s", list, old.Name, old.Version, origin(old), origin(new)))
		}
	}
	return lines
}

// origin tells two .debs of one version apart.
func origin(p Package) string {
	return fmt.Sprintf("%s (%d bytes, %s/%s, source %s %s)", cmp.Or(p.SHA256, "no archive"), p.Size, p.Archive, p.Path, p.Source, p.SourceVersion)
}

func diffComponents(a, b []Component) []string {
	name := func(c Component) string { return c.Name }
	before, after := index(a, name), index(b, name)
	var lines []string
	for _, key := range union(before, after) {
		old, was := before[key]
		new, is := after[key]
		switch {
		case !was:
			lines = append(lines, fmt.Sprintf("  components: + %s %s", key, new.Version))
			continue
		case !is:
			lines = append(lines, fmt.Sprintf("  components: - %s %s", key, old.Version))
			continue
		case old.Version != new.Version:
			lines = append(lines, fmt.Sprintf("  components: %s %s -> %s", key, old.Version, new.Version))
			continue
		}
		program := func(p Program) string { return p.Name }
		was2, is2 := index(old.Programs, program), index(new.Programs, program)
		for _, p := range union(was2, is2) {
			if was2[p] != is2[p] {
				lines = append(lines, fmt.Sprintf("  components: %s %s: program %s is another: %s -> %s", key, old.Version, p,
					cmp.Or(was2[p].SHA256, "none"), cmp.Or(is2[p].SHA256, "none")))
			}
		}
	}
	return lines
}

func imageNames(images []Image) []string {
	var names []string
	for _, i := range images {
		for _, name := range i.Names {
			names = append(names, name+"@"+i.Digest)
		}
	}
	return names
}

func diffSets(list string, a, b []string) []string {
	self := func(s string) string { return s }
	before, after := index(a, self), index(b, self)
	var lines []string
	for _, name := range union(before, after) {
		if _, is := after[name]; !is {
			lines = append(lines, fmt.Sprintf("  %s: - %s", list, name))
		} else if _, was := before[name]; !was {
			lines = append(lines, fmt.Sprintf("  %s: + %s", list, name))
		}
	}
	return lines
}

func index[T any](list []T, key func(T) string) map[string]T {
	m := make(map[string]T, len(list))
	for _, v := range list {
		m[key(v)] = v
	}
	return m
}

// union lists the keys of both, sorted.
func union[T any](a, b map[string]T) []string {
	var keys []string
	for key := range a {
		keys = append(keys, key)
	}
	for key := range b {
		if _, both := a[key]; !both {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}
