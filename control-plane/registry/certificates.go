package registry

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// certificatesPrefix + cluster + "/" + fingerprint; the value is an instance ID.
const certificatesPrefix = "/ovenbird/node-certificates/"

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
