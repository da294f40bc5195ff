package cluster

import (
	"path/filepath"

	"github.com/ovenbird-dev/ovenbird/control-plane/registry"
)

// Dir is where everything of a cluster lives; removing it leaves nothing of the cluster.
func Dir(stateDir, name string) string { return filepath.Join(stateDir, "clusters", name) }

// KeyDir holds a cluster's keys; its authority is named Authority.
func KeyDir(stateDir, name string) string { return filepath.Join(Dir(stateDir, name), "pki") }

// Authority is the name, in KeyDir, of the authority that signs what a cluster's API
// server trusts.
const Authority = "ca"

// ServiceAccountKey is the name, in KeyDir, of the key that signs service account tokens.
const ServiceAccountKey = "service-account"

// EncryptionKey is the file, in KeyDir, of the key that Secrets are encrypted with.
const EncryptionKey = "encryption.key"

// EtcdData is the directory, in Dir, of a cluster's etcd.
const EtcdData = "etcd"

// runDir holds the records and logs of a cluster's processes.
func runDir(dir string) string { return filepath.Join(dir, "run") }

// auditLog is where a cluster's API server writes its audit log.
func auditLog(dir string) string { return filepath.Join(runDir(dir), "kube-apiserver-audit.log") }

// LogFile is where a cluster's log of a type is; "" for a type that has no file of the cluster's own.
func LogFile(stateDir, name, kind string) string {
	dir := Dir(stateDir, name)
	switch kind {
	case registry.LogAPI:
		return filepath.Join(runDir(dir), "kube-apiserver.log")
	case registry.LogAudit:
		return auditLog(dir)
	case registry.LogControllerManager:
		return filepath.Join(runDir(dir), "kube-controller-manager.log")
	case registry.LogScheduler:
		return filepath.Join(runDir(dir), "kube-scheduler.log")
	}
	return ""
}
