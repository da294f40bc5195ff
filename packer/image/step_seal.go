package image

import (
	"context"

	"github.com/hashicorp/packer-plugin-sdk/multistep"
)

// sealScript removes what belongs to the build and not to the node: package lists,
// temporary files, logs, and everything that must differ between two nodes.
const sealScript = `
# No password opens root.
passwd --quiet --lock root
# What people make is not for everybody to read (pam_umask).
if [ -f /etc/login.defs ]; then
  sed -i '/^[[:space:]]*UMASK[[:space:]]/d' /etc/login.defs
  printf 'UMASK\t\t027\n' >>/etc/login.defs
fi
find /tmp /var/tmp -mindepth 1 -delete
find /var/log -type f -delete
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/cache/apt/archives/*
rm -rf /var/cache/debconf/*-old /var/lib/dpkg/*-old /var/cache/ldconfig/aux-cache
rm -f /var/lib/systemd/random-seed /var/lib/dbus/machine-id /var/lib/systemd/credential.secret
rm -f /etc/ssh/ssh_host_*
rm -f /etc/.pwd.lock /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- /etc/subuid- /etc/subgid-
# The build machine's own resolver, kept by the resolved package.
rm -f /etc/.resolv.conf.systemd-resolved.bak
rm -f /root/.bash_history /root/.lesshst /root/.wget-hsts
# All that systemd does at the first boot after an update of /usr is in the image.
for dir in /etc /var; do
  echo "TIMESTAMP_NSEC=${SOURCE_DATE_EPOCH}000000000" >"$dir/.updated"
done
# Empty: systemd makes an id at boot without running its first-boot set-up.
: >/etc/machine-id
`

// stepSeal ends the provisioners' access and makes the tree one that any number of
// nodes can start from.
type stepSeal struct{ *bake }

// Run seals the tree.
func (s *stepSeal) Run(ctx context.Context, state multistep.StateBag) multistep.StepAction {
	s.comm.Close()
	return s.step(state, "Sealing the root file system", func() error {
		if err := s.survey(ctx); err != nil {
			return err
		}
		if err := s.closeArchives(); err != nil {
			return err
		}
		if err := s.inRoot(ctx, "seal the root file system", sealScript); err != nil {
			return err
		}
		return settleContainerd(s.root.Dir, s.epoch)
	})
}

// Cleanup has nothing to undo.
func (s *stepSeal) Cleanup(multistep.StateBag) {}
