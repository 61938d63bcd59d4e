/** The version of this package, from package.json. */
declare const VERSION: string;
