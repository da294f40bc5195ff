package backup

import (
	"crypto/sha256"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/ovenbird-dev/ovenbird/control-plane/cluster"
)

// What is in an archive: a tar file, compressed with zstd, encrypted with age.
const (
	registryFile = "registry.json"
	snapshotFile = "etcd.db"
	keyPrefix    = "pki/"
	manifestFile = "manifest.json"
	// signatureFile comes last, after the manifest that it is of, and where there is a key.
	signatureFile = "manifest.hmac"
)

// Bounds of what is read, so that an archive from elsewhere fills neither disk nor memory.
const (
	maxMembers  = 64
	maxSnapshot = 9 << 30  // etcd's advice is to have at most 8 GiB of data
	maxDocument = 64 << 20 // a manifest, a cluster's registry documents
	maxKey      = 64 << 10
	maxWindow   = 64 << 20 // of zstd, whose own encoder uses 8 MiB here
)

// limit is the largest size of a member; ok tells whether an archive has members of that name.
func limit(name string) (size int64, ok bool) {
	switch name {
	case snapshotFile:
		return maxSnapshot, true
	case registryFile, manifestFile:
		return maxDocument, true
	case signatureFile:
		return sha256.Size, true
	}
	base, isKey := strings.CutPrefix(name, keyPrefix)
	return maxKey, isKey && base == filepath.Base(base) && filepath.IsLocal(base)
}

// needed are the files without which a cluster does not come back as itself.
func needed() []string {
	names := []string{registryFile, snapshotFile, keyPrefix + cluster.EncryptionKey, keyPrefix + cluster.ServiceAccountKey + ".key"}
	for _, authority := range []string{cluster.Authority, "etcd-ca", "front-proxy-ca"} {
		names = append(names, keyPrefix+authority+".crt", keyPrefix+authority+".key")
	}
	return names
}

// checkNeeded tells what is missing among files, which are by name.
func checkNeeded(files map[string]string) error {
	for _, name := range needed() {
		if _, ok := files[name]; !ok {
			return fmt.Errorf("%s is missing, without which the cluster cannot come back", name)
		}
	}
	return nil
}
