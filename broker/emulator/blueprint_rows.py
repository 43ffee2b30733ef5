"""The rows of the blueprint catalogue: id, group, name, type, login user, version.

At run time the broker trusts the `username` that access details bring; the users here are those of the images'
distributions. Versions, and the groups of retired rows, are the emulator's own words where AWS publishes none.
"""

from __future__ import annotations

from typing import Final

Row = tuple[str, str, str, str, str, str]

_BITNAMI_APPS: Final = (
    "joomla",
    "magento",
    "mean",
    "drupal",
    "gitlab",
    "redmine",
    "nginx",
    "ghost_bitnami",
    "django_bitnami",
    "prestashop_bitnami",
)

ACTIVE: Final[tuple[Row, ...]] = (
    ("windows_server_2025", "windows_2025", "Windows Server 2025", "os", "Administrator", "2025"),
    ("windows_server_2022", "windows_2022", "Windows Server 2022", "os", "Administrator", "2022"),
    ("windows_server_2019", "windows_2019", "Windows Server 2019", "os", "Administrator", "2019"),
    ("windows_server_2016", "windows_2016", "Windows Server 2016", "os", "Administrator", "2016"),
    (
        "windows_server_2022_sql_2022_express",
        "windows_2022_sql_exp_2022",
        "SQL Server 2022 Express",
        "app",
        "Administrator",
        "2022",
    ),
    (
        "windows_server_2022_sql_2019_express",
        "windows_2022_sql_exp_2019",
        "SQL Server 2019 Express",
        "app",
        "Administrator",
        "2019",
    ),
    (
        "windows_server_2016_sql_2016_express",
        "windows_2016_sql_exp",
        "SQL Server 2016 Express",
        "app",
        "Administrator",
        "2016",
    ),
    ("amazon_linux_2023", "amazon_linux_2023", "Amazon Linux 2023", "os", "ec2-user", "2023"),
    ("amazon_linux_2", "amazon_linux_2", "Amazon Linux 2", "os", "ec2-user", "2"),
    ("ubuntu_24_04", "ubuntu_24", "Ubuntu", "os", "ubuntu", "24.04 LTS"),
    ("ubuntu_22_04", "ubuntu_22", "Ubuntu", "os", "ubuntu", "22.04 LTS"),
    ("ubuntu_20_04", "ubuntu_20", "Ubuntu", "os", "ubuntu", "20.04 LTS"),
    ("debian_12", "debian_12", "Debian", "os", "admin", "12"),
    ("debian_11", "debian_11", "Debian", "os", "admin", "11"),
    ("freebsd_14", "freebsd_14", "FreeBSD", "os", "ec2-user", "14"),
    ("freebsd_13", "freebsd_13", "FreeBSD", "os", "ec2-user", "13"),
    ("opensuse_15", "opensuse_15", "openSUSE", "os", "ec2-user", "15"),
    ("alma_linux_9", "alma_linux_9", "AlmaLinux", "os", "ec2-user", "9"),
    ("centos_stream_9", "centos_stream_9", "CentOS Stream", "os", "ec2-user", "9"),
    ("wordpress", "wordpress", "WordPress", "app", "bitnami", "6.5.3-0"),
    ("wordpress_multisite", "wordpress_multisite", "WordPress Multisite", "app", "bitnami", "6.5.3-0"),
    ("wordpress_ls_1_0", "wordpress_ls", "WordPress on Debian 12", "app", "admin", "1.0"),
    ("lamp_8_bitnami", "lamp_8", "LAMP", "app", "bitnami", "8.2.18-4"),
    ("nodejs", "node", "Node.js", "app", "bitnami", "18.20.2-0"),
    *((name, name.removesuffix("_bitnami"), name, "app", "bitnami", "1") for name in _BITNAMI_APPS),
    ("plesk_ubuntu_byol", "plesk", "Plesk", "app", "ubuntu", "18"),
    ("cpanel_whm_almalinux", "cpanel", "cPanel & WHM", "app", "centos", "110"),
)

INACTIVE: Final[tuple[Row, ...]] = (
    ("windows_server_2012_r2", "windows_2012", "Windows Server 2012 R2", "os", "Administrator", "2012 R2"),
    ("amazon_linux_2018_03_0_2", "amazon_linux", "Amazon Linux", "os", "ec2-user", "2018.03.0.2"),
    ("centos_7_1901_01", "centos_7", "CentOS", "os", "centos", "7-1901-01"),
    ("ubuntu_18_04", "ubuntu_18", "Ubuntu", "os", "ubuntu", "18.04 LTS"),
    ("ubuntu_16_04_2", "ubuntu_16", "Ubuntu", "os", "ubuntu", "16.04 LTS"),
    ("debian_9_5", "debian_9", "Debian", "os", "admin", "9.5"),
    ("wordpress_4_9_8", "wordpress", "WordPress", "app", "bitnami", "4.9.8"),
)
