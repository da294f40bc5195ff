// Package disk names the parts of a node's disk, for the builder that makes them and for
// the initrd that looks for them.
package disk

// Names of the partitions of a disk with a verified root.
const (
	Root       = "ovenbird-root"        // erofs, read-only
	RootVerity = "ovenbird-root-verity" // the hashes of its blocks
	Var        = "ovenbird-var"         // ext4, grown to the volume at first boot
)
