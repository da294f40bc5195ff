package registry

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// certificatesPrefix + cluster + "/" + fingerprint; the value is an instance ID.
	certificatesPrefix = "/ovenbird/node-certificates/"
	// certificatesSinceKey has the time since when certificates are noted.
	certificatesSinceKey = "/ovenbird/node-certificates-since"
)

// CertificatesSince returns since when certificates are noted: the now of the first call. The
// zero time means from the beginning: there was no cluster then.
func (r *Registry) CertificatesSince(ctx context.Context, now time.Time) (since time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	put := func(since time.Time) []clientv3.Op {
		return []clientv3.Op{clientv3.OpPut(certificatesSinceKey, since.UTC().Format(time.RFC3339))}
	}
	noCluster := clientv3.Compare(clientv3.CreateRevision(clustersPrefix).WithPrefix(), "=", 0)
	_, err = r.etcd.Txn(ctx).If(missing(certificatesSinceKey)).
		Then(clientv3.OpTxn([]clientv3.Cmp{noCluster}, put(time.Time{}), put(now))).Commit()
	var answer *clientv3.GetResponse
	if err == nil {
		answer, err = r.etcd.Get(ctx, certificatesSinceKey)
	}
	if err == nil && len(answer.Kvs) == 0 {
		err = ErrNotFound
	}
	if err == nil {
		since, err = time.Parse(time.RFC3339, string(answer.Kvs[0].Value))
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("find since when certificates are noted: %w", err)
	}
	return since, nil
}

// RecordCertificate notes to which instance a client certificate of a cluster was issued,
// for as long as the certificate holds. What is noted already stays as it is.
func (r *Registry) RecordCertificate(ctx context.Context, cluster, fingerprint, instanceID string, lifetime time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	key := certificatesPrefix + cluster + "/" + fingerprint
	lease, err := r.etcd.Grant(ctx, int64(lifetime.Seconds())+1)
	if err == nil {
		var answer *clientv3.TxnResponse
		answer, err = r.etcd.Txn(ctx).If(missing(key)).Then(clientv3.OpPut(key, instanceID, clientv3.WithLease(lease.ID))).Commit()
		if err == nil && !answer.Succeeded {
			_, err = r.etcd.Revoke(ctx, lease.ID)
		}
	}
	if err != nil {
		return fmt.Errorf("note a certificate of instance %s in cluster %s: %w", instanceID, cluster, err)
	}
	return nil
}

// CertificateInstance returns the instance that a client certificate was issued to;
// ErrNotFound when it was not noted, or does not hold any more.
func (r *Registry) CertificateInstance(ctx context.Context, cluster, fingerprint string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := r.etcd.Get(ctx, certificatesPrefix+cluster+"/"+fingerprint)
	if err == nil && len(answer.Kvs) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return "", fmt.Errorf("find the instance of a certificate in cluster %s: %w", cluster, err)
	}
	return string(answer.Kvs[0].Value), nil
}
