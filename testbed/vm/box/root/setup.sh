# Run once inside the root directory of a box: the user that Vagrant logs in as, and nothing at boot that no
# node needs.
set -e
export DEBIAN_FRONTEND=noninteractive
useradd --create-home --shell /bin/bash vagrant
install -d -m 700 -o vagrant -g vagrant /home/vagrant/.ssh
ssh-keygen -q -t ed25519 -N "" -C vagrant -f /home/vagrant/key
install -m 600 -o vagrant -g vagrant /home/vagrant/key.pub /home/vagrant/.ssh/authorized_keys
rm -f /home/vagrant/key.pub /etc/ssh/ssh_host_*_key*
chmod 440 /etc/sudoers.d/vagrant
echo node > /etc/hostname
# A name that has to be looked up costs each sudo a time-out where there is no name server.
printf "127.0.0.1 localhost\n127.0.1.1 node\n" > /etc/hosts
: > /etc/resolv.conf
echo "/dev/vda / ext4 noatime 0 0" > /etc/fstab
: > /etc/machine-id
systemctl -q enable systemd-networkd ssh
systemctl -q disable nginx haproxy systemd-networkd-wait-online getty@tty1
systemctl -q mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
  e2scrub_reap.service fstrim.timer motd-news.timer systemd-networkd-wait-online.service \
  getty@tty1.service serial-getty@ttyS0.service systemd-update-utmp.service systemd-update-utmp-runlevel.service \
  systemd-pstore.service systemd-logind.service systemd-rfkill.socket systemd-binfmt.service \
  proc-sys-fs-binfmt_misc.automount keyboard-setup.service console-setup.service ssh.socket 2>/dev/null
depmod -a "$(ls /usr/lib/modules)"
python3 -m compileall -q /usr/lib/python3 >/dev/null || true
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin
