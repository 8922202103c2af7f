"Every setting is in settings.ini: edit it there, not here."
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

root = Path(__file__).parent
parser = ConfigParser(delimiters=['='])
parser.read(root/'settings.ini', encoding='utf-8')
cfg = parser['DEFAULT']

def extra(name): return cfg[f'{name}_requirements'].split()
def text(name): return (root/name).read_text(encoding='utf-8') if (root/name).exists() else ''

lib = cfg['lib_path']
status = {'1': '1 - Planning', '2': '2 - Pre-Alpha', '3': '3 - Alpha', '4': '4 - Beta', '5': '5 - Production/Stable'}

setup(
    name=cfg['lib_name'], version=cfg['version'], description=cfg['description'], author=cfg['author'],
    license={'apache2': 'Apache-2.0'}[cfg['license']], license_files=['LICENSE'],
    url=cfg['git_url'], keywords=cfg['keywords'],
    project_urls={'Documentation': cfg['doc_host'] + cfg['doc_baseurl'], 'Changelog': cfg['git_url'] + '/blob/main/CHANGELOG.md'},
    long_description=text('README.md'), long_description_content_type='text/markdown',
    packages=find_packages(include=[lib, f'{lib}.*']), include_package_data=True, zip_safe=False,
    python_requires='>=' + cfg['min_python'],
    install_requires=cfg['requirements'].split(),
    extras_require={name: extra(name) for name in ('dev', 'distributed', 'export', 'sound', 'parquet', 'balance', 'site')},
    entry_points={'console_scripts': cfg['console_scripts'].split(), 'nbdev': [f'{lib}={lib}._modidx:d']},
    classifiers=[
        'Development Status :: ' + status[cfg['status']],
        f'Intended Audience :: {cfg["audience"]}',
        f'Natural Language :: {cfg["language"]}',
        'Programming Language :: Python :: 3',
        f'Programming Language :: Python :: {cfg["min_python"]}',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
)
